#!/usr/bin/env bash
# A small crate is built, changed, built again and tested inside the mount.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
unset CARGO_TARGET_DIR
cd "$MNT"
cargo init -q --vcs none --name small small
cd small
cargo build -q --offline
same "it runs" "Hello, world!" "$(./target/debug/small)"
# What is built again is known by times alone.
same "nothing to build" "" "$(cargo build --offline --message-format short 2>&1 | grep Compiling || true)"
sed -i 's/world/mount/' src/main.rs
cargo build -q --offline
same "the change is in" "Hello, mount!" "$(./target/debug/small)"
echo '#[test] fn holds() { assert_eq!(2 + 2, 4); }' >>src/main.rs
cargo test --offline 2>&1 | grep -q '^test result: ok. 1 passed' || fail "cargo test"
cd /
