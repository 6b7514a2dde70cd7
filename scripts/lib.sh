# Shared by all scripts; to be sourced. Owns how things are installed, built, mounted and, above all, unmounted again.
# Promise: whatever happens in a script, afterwards there is no mount, no daemon and no scratch file of its own left.
#
# TARGET=DIRECTORY runs a test in that directory instead of a mount of ours. It tells whether a test demands something that no local
# disk gives, or whether it demands anything at all. What needs a store then says so and is skipped.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where cargo was installed but this shell has not been told.
command -v cargo >/dev/null 2>&1 || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
# A relative CARGO_TARGET_DIR is relative to where cargo runs, which is ROOT.
TARGET_DIR=$(cd "$ROOT" && realpath -m "${CARGO_TARGET_DIR:-target}")
BITKV_MOUNT=$TARGET_DIR/release/bitkv-mount
BITKV=$TARGET_DIR/release/bitkv
HELPERS=$ROOT/scripts/helpers
TARGET=${TARGET:-}
# What a test exits with that could not run here.
SKIPPED=77
DAEMON=
FLAWS=0

# Installs a Debian package if something is missing: need COMMAND PACKAGE, need /A/FILE PACKAGE
need() {
    has "$1" && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        if [ -z "${APT_UPDATED:-}" ]; then
            apt-get update -qq >/dev/null
            export APT_UPDATED=1
        fi
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null 2>&1 </dev/null || true
    fi
    has "$1" || { echo "missing: $1 (install the package $2)" >&2; return 1; }
}

has() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

build() {
    need cc gcc
    has cargo || { echo "missing: cargo (install Rust)" >&2; return 1; }
    (cd "$ROOT" && cargo build --release --quiet --bins)
    # The tests that are started after this need not ask again.
    export BITKV_BUILT=1
}

# A scratch directory that is gone at the end, with the mount in it. Sets WORK, DATA and MNT.
scratch() {
    WORK=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/bitkv-test.XXXXXX")")
    DATA=$WORK/data
    MNT=$WORK/mnt
    trap cleanup EXIT
    # A signal must end the script, or its EXIT trap would not run.
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if [ -n "$TARGET" ]; then
        MNT=$(mktemp -d "$(realpath "$TARGET")/bitkv-test.XXXXXX")
    else
        [ -n "${BITKV_BUILT:-}" ] || build
        mkdir "$MNT"
    fi
}

# For tests that make no sense in a plain directory.
needs_store() {
    [ -z "$TARGET" ] || skip "needs a store"
}

skip() {
    echo "skipped: $*"
    exit "$SKIPPED"
}

# (Where the caller asks for the result, set -e is off inside: hence each `|| return`.)
mount_store() { # further options are passed on
    [ -z "$TARGET" ] || return 0
    timeout -k 5 120 "$BITKV_MOUNT" --log-file "$WORK/log" ${BITKV_TRANSPORT:+--transport "$BITKV_TRANSPORT"} "$@" "$DATA" "$MNT" || return
    DAEMON=$(cat "$DATA/LOCK")
}

unmount_store() {
    [ -z "$TARGET" ] || return 0
    timeout -k 5 300 "$BITKV" umount "$MNT" || return
    DAEMON=
}

is_mounted() { awk -v m="${1:-$MNT}" '$2 == m && $3 ~ /^fuse/ { found = 1 } END { exit !found }' /proc/self/mounts; }

# Alive, and not merely waiting for its parent to take notice.
is_alive() { [ -r "/proc/$1/stat" ] && ! grep -q ') [ZX] ' "/proc/$1/stat" 2>/dev/null; }

# Whether a process is the daemon of this script's store: pids are used again, and others run daemons too.
# It is by what it has open.
is_our_daemon() { [ -n "$1" ] && [ -n "$(find "/proc/$1/fd" -lname "$DATA/*" -print -quit 2>/dev/null)" ]; }

# Kills the daemon as a power cut would, if power cuts spared the kernel. The dead mount stays.
kill_daemon_only() {
    is_our_daemon "$DAEMON" || fail "process $DAEMON isn't the daemon of $DATA"
    kill -9 "$DAEMON"
    while is_alive "$DAEMON"; do sleep 0.01; done
    DAEMON=
}

# The same, and takes the dead mount away.
kill_daemon() {
    kill_daemon_only
    detach
}

detach() { umount -l "$MNT" 2>/dev/null || fusermount3 -u -z "$MNT"; }

# Ends the connection of a mount that hangs: everybody who waits for it gets an error, even who can't be killed.
abort_connection() {
    local connection
    connection=$(awk -v m="$MNT" '$5 == m { split($3, device, ":"); print device[2] }' /proc/self/mountinfo | tail -n 1)
    [ -n "$connection" ] || return 0
    mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null
    echo 1 2>/dev/null >"/sys/fs/fuse/connections/$connection/abort"
}

# Runs at the end, however it comes. A test may define tidy() for what it made outside of WORK and the mount.
cleanup() {
    local code=$? process
    trap - EXIT INT TERM HUP
    set +e
    cd /
    [ "$code" != 0 ] || [ "$FLAWS" = 0 ] || code=1
    # Only what this shell itself has started and not yet waited for.
    for process in $(jobs -p); do kill "$process" 2>/dev/null; done
    if [ -z "$TARGET" ]; then
        if is_mounted && ! timeout -k 5 60 "$BITKV" umount "$MNT" >/dev/null 2>&1; then
            echo "the mount could not be ended in peace" >&2
            [ "$code" != 0 ] || code=1
            abort_connection
            detach 2>/dev/null
        fi
        if is_our_daemon "$DAEMON"; then
            for _ in $(seq 100); do is_alive "$DAEMON" || break; sleep 0.1; done
            if is_alive "$DAEMON" && is_our_daemon "$DAEMON"; then
                echo "the daemon did not end" >&2
                [ "$code" != 0 ] || code=1
                kill -9 "$DAEMON"
            fi
        fi
    else
        rm -rf "$MNT"
    fi
    for process in $(jobs -p); do kill -9 "$process" 2>/dev/null; done
    wait 2>/dev/null
    declare -F tidy >/dev/null && tidy
    if [ "$code" != 0 ] && [ "$code" != "$SKIPPED" ] && [ -s "$WORK/log" ]; then
        echo "--- the daemon's log:" >&2
        tail -n 20 "$WORK/log" >&2
    fi
    if [ "$code" != 0 ] && [ "$code" != "$SKIPPED" ] && [ -n "${KEEP:-}" ]; then
        echo "kept: $WORK" >&2
    else
        rm -rf --one-file-system "$WORK"
    fi
    exit "$code"
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# A failure that doesn't keep the rest of a test from telling more.
flaw() {
    echo "FAILED: $*" >&2
    FLAWS=$((FLAWS + 1))
}

same() { # same WHAT EXPECTED GOT
    [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# refused WHAT COMMAND...: the command must fail. Its messages are left in the variable `message`.
# shellcheck disable=SC2034 # for who calls
refused() {
    local what=$1
    shift
    # timeout can't run a function of ours.
    declare -F "$1" >/dev/null || set -- timeout -k 5 60 "$@"
    if message=$("$@" 2>&1); then fail "$what is taken"; fi
}

# One number for a whole tree: names, kinds, permissions and contents.
tree_sum() {
    (
        cd "$1"
        find . -mindepth 1 -path ./.bitkv -prune -o -printf '%P %y %m %l\0' | LC_ALL=C sort -z | sha256sum
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum
    ) | sha256sum
}

# The rest of what stat shows. To compare a tree with itself, later: numbers of inodes, links, owners, and times (but those of reading).
stat_sum() {
    (cd "$1" && find . -path ./.bitkv -prune -o -printf '%P %i %n %U %G %T@ %C@ %y\0' | LC_ALL=C sort -z | sha256sum)
}

stat_of() { # a number of .bitkv/stats
    awk -v name="$1:" '$1 == name { print $2 }' "$MNT/.bitkv/stats"
}

# The bytes that the store takes on its disk.
data_bytes() { du -s -B1 "$DATA" | cut -f 1; }

# Starts over with an empty store.
fresh() {
    if [ -n "$TARGET" ]; then
        find "$MNT" -mindepth 1 -delete
    else
        rm -rf "$DATA"
    fi
}

# About 5,000 files of source text, as people have them: from the local registry of cargo, or else made here.
source_tree() { # source_tree DIRECTORY
    mkdir -p "$1"
    python3 "$HELPERS/source_tree.py" "${CARGO_HOME:-$HOME/.cargo}/registry/src" "$1" "${FILES:-5000}"
}

# unmount_disk IMAGE MOUNTPOINT: a loop-mounted filesystem that was shut down goes, with all that was only in memory.
unmount_disk() {
    for _ in $(seq 50); do
        umount "$2" 2>/dev/null && break
        sleep 0.1
    done
    if mountpoint -q "$2"; then fail "$2 can't be unmounted"; fi
    # Somebody's mount namespace may have a copy of the mount for a moment more: mounted again meanwhile, it would be the disk that is shut down.
    for _ in $(seq 100); do
        [ -n "$(losetup -j "$1")" ] || return 0
        sleep 0.1
    done
    fail "$1 is still in use elsewhere"
}
