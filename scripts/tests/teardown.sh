#!/usr/bin/env bash
# However a mount ends, nobody is left hanging: not who uses it, not the daemon, not the other mounts.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch

# Who uses the mount while it ends: each may fail, none may hang.
users() {
    local user
    USERS=()
    rm -f "$WORK/began"*
    for user in $(seq 8); do
        timeout -k 1 120 python3 - "$MNT" "$user" "$WORK/began$user" <<'PYTHON' &
import os, sys
# Once the mount is taken away, its path leads to the directory below it.
os.chdir(sys.argv[1])
name = "user" + sys.argv[2]
open(sys.argv[3], "w").close()
try:
    while True:
        with open(name, "wb") as file:
            file.write(b"x" * 100000)
            file.flush()
            os.fsync(file.fileno())
        with open(name, "rb") as file:
            file.read()
        os.unlink(name)
except OSError:
    pass
PYTHON
        USERS+=($!)
    done
    for user in $(seq 1000); do
        [ "$(find "$WORK" -maxdepth 1 -name 'began*' | wc -l)" -lt 8 ] || return 0
        sleep 0.01
    done
    fail "nobody uses the mount"
}

users_end() { # users_end WHAT
    local user
    for user in "${USERS[@]}"; do
        wait "$user" || fail "$1: a user ends with $? (124: hangs)"
    done
}

daemon_ends() { # daemon_ends WHAT PROCESS
    local try
    for try in $(seq 600); do
        is_alive "$2" || return 0
        sleep 0.05
    done
    fail "$1: the daemon outlives its mount ($try)"
}

for round in 1 2 3; do
    # Killed: who waits and who comes gets an error at once.
    mount_store
    users
    kill_daemon_only
    users_end "kill -9, round $round"
    refused "a dead mount" ls "$MNT"
    [[ $message == *"not connected"* ]] || fail "kill -9: $message"
    detach

    # The connection aborted through the kernel: the daemon puts its store in order and ends.
    mount_store
    pid=$DAEMON
    users
    abort_connection
    users_end "abort, round $round"
    daemon_ends abort "$pid"
    detach 2>/dev/null || true

    # Taken away while it is used: who has a file open goes on; the daemon ends when the last has closed, or has told them so.
    mount_store
    pid=$DAEMON
    echo kept >"$MNT/kept"
    exec 8<"$MNT/kept"
    umount -l "$MNT"
    same "a file that is open" kept "$(cat <&8)"
    exec 8<&-
    daemon_ends "umount -l" "$pid"
    DAEMON=

    # A signal, in the middle of everything.
    mount_store
    pid=$DAEMON
    users
    kill -TERM "$pid"
    users_end "SIGTERM, round $round"
    daemon_ends SIGTERM "$pid"
    if is_mounted; then fail "SIGTERM leaves the mount"; fi
done

# Several mounts, ended in the order in which they came and the other way round: each goes alone.
for order in "1 2 3" "3 2 1"; do
    for one in 1 2 3; do
        mkdir -p "$WORK/mnt$one"
        MNT=$WORK/mnt$one DATA=$WORK/data$one mount_store
        echo "$one" >"$WORK/mnt$one/file"
    done
    left="1 2 3"
    for one in $order; do
        "$BITKV" umount "$WORK/mnt$one"
        left=${left/$one/}
        for other in $left; do
            same "mount $other after the end of $one" "$other" "$(cat "$WORK/mnt$other/file")"
        done
    done
done
DAEMON=
MNT=$WORK/mnt
mount_store
same kept kept "$(cat "$MNT/kept")"
same health ok "$(cat "$MNT/.bitkv/health")"
unmount_store
