# Shared by all scripts; to be sourced. Owns how things are installed, built, mounted and, above all, unmounted again.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
BITKV_MOUNT=$TARGET_DIR/release/bitkv-mount
BITKV=$TARGET_DIR/release/bitkv

# Installs Debian packages that are missing: need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        if [ -z "${APT_UPDATED:-}" ]; then
            apt-get update -qq >/dev/null
            export APT_UPDATED=1
        fi
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null
    fi
    command -v "$1" >/dev/null 2>&1 || { echo "missing: $1 (install the package $2)" >&2; return 1; }
}

build() {
    need cc gcc
    (cd "$ROOT" && cargo build --release --quiet)
}

# A scratch directory that is gone at the end, with the mount in it. Sets WORK, DATA and MNT.
scratch() {
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/bitkv-test.XXXXXX")
    DATA=$WORK/data
    MNT=$WORK/mnt
    mkdir -p "$MNT"
    trap cleanup EXIT
}

mount_store() { # further options are passed on
    timeout 60 "$BITKV_MOUNT" --log-file "$WORK/log" "$@" "$DATA" "$MNT"
}

unmount_store() {
    timeout 120 "$BITKV" umount "$MNT"
}

is_mounted() { grep -q " $MNT fuse" /proc/self/mounts; }

# Alive, and not merely waiting for its parent to take notice.
is_alive() { [ -r "/proc/$1/stat" ] && ! grep -q ') [ZX] ' "/proc/$1/stat" 2>/dev/null; }

daemon_pid() { cat "$DATA/LOCK"; }

# Kills the daemon as a power cut would, if power cuts spared the kernel, and takes the dead mount away.
kill_daemon() {
    local pid
    pid=$(daemon_pid)
    kill -9 "$pid"
    while is_alive "$pid"; do sleep 0.01; done
    umount -l "$MNT" 2>/dev/null || fusermount3 -u -z "$MNT"
}

# A mount that hangs is freed by ending its connection; nothing is left behind.
cleanup() {
    local code=$?
    trap - EXIT
    set +e
    cd /
    if is_mounted; then
        if ! timeout 60 "$BITKV" umount "$MNT" 2>/dev/null; then
            local device
            device=$(awk -v m="$MNT" '$5 == m { split($3, d, ":"); print d[2] }' /proc/self/mountinfo | tail -n 1)
            mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null
            [ -n "$device" ] && echo 1 >"/sys/fs/fuse/connections/$device/abort" 2>/dev/null
            umount -l "$MNT" 2>/dev/null
        fi
    fi
    if [ "$code" != 0 ] && [ -s "$WORK/log" ]; then
        echo "--- the daemon's log:" >&2
        tail -n 20 "$WORK/log" >&2
    fi
    rm -rf "$WORK"
    exit "$code"
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

same() { # same WHAT EXPECTED GOT
    [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# One number for a whole tree: names, kinds, permissions and contents.
tree_sum() {
    (cd "$1" && find . -mindepth 1 -path ./.bitkv -prune -o -printf '%P %y %m %l\n' | LC_ALL=C sort | sha256sum &&
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum) | sha256sum
}

stat_of() { # a number of .bitkv/stats
    awk -v name="$1:" '$1 == name { print $2 }' "$MNT/.bitkv/stats"
}

# About 5,000 files of source text, as people have them: the local registry of cargo, or what is made here.
source_tree() { # source_tree DIRECTORY
    mkdir -p "$1"
    local registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
    if [ -d "$registry" ] && [ "$(find "$registry" -type f | wc -l)" -ge 2000 ]; then
        cp -r "$registry"/. "$1"/
    else
        python3 - "$1" <<'PY'
import os, random, sys
r = random.Random(7)
for i in range(5000):
    d = os.path.join(sys.argv[1], f"dir{i % 97}", f"sub{i % 7}")
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, f"file{i}.txt"), "wb") as f:
        f.write(r.randbytes(r.choice([0, 10, 700, 4096, 5000, 20000, 70000])))
PY
    fi
}
