#!/usr/bin/env bash
# Somebody else than root mounts, works, and unmounts, through fusermount3: with scripts/run and with bitkv-mount; others, root among them, are kept out.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
[ "$(id -u)" = 0 ] || skip "needs root (to be somebody else)"
need fusermount3 fuse3
need setpriv util-linux
[ -u "$(command -v fusermount3)" ] || skip "fusermount3 isn't setuid here"
# With a /dev/fuse of its own, which is open to everybody or isn't.
[ -n "${OWN_MOUNTS:-}" ] || exec unshare --mount --propagation private env OWN_MOUNTS=1 bash "$0"
scratch
mknod -m 600 "$WORK/fuse" c 10 229 || skip "can't make device files"
mount --bind "$WORK/fuse" /dev/fuse
(: <>/dev/fuse) 2>/dev/null || skip "device files don't work in $WORK"
chmod 755 "$WORK"
rmdir "$MNT"
# What is built, where that somebody can reach it; there is nothing more to build.
mkdir -p "$WORK/checkout/target/release" "$WORK/bin" "$WORK/home"
cp -r "$ROOT/scripts" "$WORK/checkout/"
cp "$BITKV" "$BITKV_MOUNT" "$WORK/checkout/target/release/"
ln -s /bin/true "$WORK/bin/cargo"
chown nobody:nogroup "$WORK/home"
DATA=$WORK/home/data
MNT=$WORK/home/mnt
# Users that every system has: fusermount3 asks for the name.
as() { # as USER COMMAND...
    (cd "$WORK/home" && exec setpriv --reuid="$1" --regid="$(id -g "$1")" --clear-groups --inh-caps=-all \
        env -u CARGO_TARGET_DIR -u BITKV_BUILT HOME="$WORK/home" PATH="$WORK/bin:$WORK/checkout/target/release:$PATH" "${@:2}")
}
run() { as nobody ../checkout/scripts/run data mnt ${BITKV_TRANSPORT:+--transport "$BITKV_TRANSPORT"} "$@"; }

refused "mounting without /dev/fuse" run
[[ $message == *"/dev/fuse isn't open to you"* ]] || fail "it isn't said why: $message"
chmod 666 "$WORK/fuse"

# 1. One command, one line; the mount is that somebody's alone.
output=$(run)
same "lines printed" 1 "$(wc -l <<<"$output")"
DAEMON=$(as nobody cat data/LOCK)
same "the daemon's user" "$(id -u nobody)" "$(awk '/^Uid:/ { print $2 }' "/proc/$DAEMON/status")"
options=$(awk -v m="$MNT" '$2 == m { print "," $4 "," }' /proc/self/mounts)
for option in nosuid nodev "user_id=$(id -u nobody)" "group_id=$(id -g nobody)" default_permissions; do
    [[ $options == *,$option,* ]] || fail "mounted without $option: $options"
done
[[ $options != *allow_other* ]] || fail "mounted for others too: $options"
as nobody sh -c 'echo mine >mnt/file && mkdir mnt/directory && ln -s file mnt/link && mkfifo mnt/pipe && chmod 4755 mnt/file'
# shellcheck disable=SC2016 # for the other shell
same "what was written" "mine nobody:nogroup 4755" "$(as nobody sh -c 'echo $(cat mnt/link) $(stat -c "%U:%G %a" mnt/file)')"
refused "a device" as nobody mknod mnt/device c 1 3
refused "somebody else's reading" as daemon cat mnt/file
refused "root's reading" cat "$MNT/file"
same "health" ok "$(as nobody cat mnt/.bitkv/health)"
same "files" 3 "$(as nobody bitkv stats mnt | awk '$1 == "files:" { print $2 }')"
as nobody bitkv status mnt | grep -qF "$MNT" || fail "status doesn't know the mount"

# 2. It ends in order, and over a dead one there can be a new one.
as nobody bitkv umount mnt
! is_alive "$DAEMON" || fail "the daemon outlives umount"
as nobody bitkv fsck data
run >/dev/null
DAEMON=$(as nobody cat data/LOCK)
as nobody sh -c 'echo more >mnt/more'
kill_daemon_only
run >/dev/null
DAEMON=$(as nobody cat data/LOCK)
# shellcheck disable=SC2016 # for the other shell
same "after kill -9" "mine more" "$(as nobody sh -c 'echo $(cat mnt/file mnt/more)')"
# shellcheck disable=SC2016 # for the other shell
as nobody sh -c 'cd mnt && echo $$ >../sleeper && exec sleep 100' &
for _ in $(seq 100); do [ ! -s "$WORK/home/sleeper" ] || break; sleep 0.1; done
refused "ending a mount in use" as nobody bitkv umount mnt
kill "$(cat "$WORK/home/sleeper")"
wait 2>/dev/null

# 3. Root may end it too; and others are let in only where the system says so.
"$BITKV" umount "$MNT"
! is_alive "$DAEMON" || fail "the daemon outlives root's umount"
if ! grep -qs '^[[:space:]]*user_allow_other' /etc/fuse.conf; then
    refused "--allow-other" as nobody bitkv-mount --allow-other data mnt
    [[ $message == *user_allow_other* ]] || fail "it isn't said why: $message"
    if is_mounted; then fail "refused, and mounted all the same"; fi
fi
as nobody bitkv-mount data mnt -o ro
DAEMON=
refused "writing to what is mounted for reading" as nobody touch mnt/new
as nobody umount mnt 2>/dev/null || as nobody fusermount3 -u mnt
for _ in $(seq 100); do [ -e "$DATA/LOCK" ] || break; sleep 0.1; done
as nobody bitkv fsck data
same "what is left" 2 "$(as nobody bitkv ls data | grep -cE 'file|more')"
