#!/usr/bin/env bash
# A small crate is built and run inside the mount.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
unset CARGO_TARGET_DIR
cd "$MNT"
cargo init -q --vcs none --name small small
cd small
cargo build -q --offline
same "it runs" "Hello, world!" "$(./target/debug/small)"
cargo test -q --offline >/dev/null
cd /
