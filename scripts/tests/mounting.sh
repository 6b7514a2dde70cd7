#!/usr/bin/env bash
# Mounting, unmounting, and what can be in the way.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch
mount_store
echo x >"$MNT/file"
grep -q " $MNT fuse.bitkv " /proc/self/mounts || fail "type: $(grep " $MNT " /proc/self/mounts)"
pid=$DAEMON
mkdir "$WORK/second"
refused "a second mount of the same data" "$BITKV_MOUNT" --lock-wait 100ms "$DATA" "$WORK/second"
grep -qw "$pid" <<<"$message" || fail "the holder $pid isn't named: $message"
if is_mounted "$WORK/second"; then fail "mounted twice, though it said no"; fi
same "the first mount lives on" x "$(cat "$MNT/file")"
# A second mount waits as long as it is told to, and gets its turn.
"$BITKV_MOUNT" --lock-wait 30s "$DATA" "$WORK/second" &
waiter=$!
sleep 0.5
is_alive "$waiter" || fail "it doesn't wait for the lock"
unmount_store
wait "$waiter" || fail "the one who waited didn't get the store"
same "its mount" x "$(cat "$WORK/second/file")"
DAEMON=$(cat "$DATA/LOCK")
pid=$DAEMON
MNT_BEFORE=$MNT MNT=$WORK/second
unmount_store
MNT=$MNT_BEFORE
if is_alive "$pid"; then fail "umount returned before the daemon was gone"; fi

# umount(8) itself finds our helper only where it is installed; but the daemon ends, synced, all the same.
mount_store
pid=$DAEMON
echo y >"$MNT/file"
umount -i "$MNT" 2>/dev/null || fusermount3 -u "$MNT"
for _ in $(seq 200); do is_alive "$pid" || break; sleep 0.05; done
if is_alive "$pid"; then fail "the daemon outlives its mount"; fi
mount_store
same "after umount" y "$(cat "$MNT/file")"

# Busy: refused, and all goes on.
exec 8<"$MNT/file"
refused "umount of a busy mount" "$BITKV" umount "$MNT"
same "busy, and alive" y "$(cat "$MNT/file")"
exec 8<&-

kill_daemon_only
refused "a dead mount" ls "$MNT"
mount_store
same "mounted over a dead mount" y "$(cat "$MNT/file")"
same "mounts there" 1 "$(grep -c " $MNT fuse" /proc/self/mounts)"

for signal in TERM INT HUP; do
    pid=$DAEMON
    echo "$signal" >"$MNT/file"
    kill "-$signal" "$pid"
    for _ in $(seq 200); do is_alive "$pid" || break; sleep 0.05; done
    if is_alive "$pid"; then fail "SIG$signal doesn't end it"; fi
    if is_mounted; then fail "SIG$signal leaves the mount"; fi
    mount_store
    same "after SIG$signal" "$signal" "$(cat "$MNT/file")"
done
unmount_store

before=$(cd "$DATA" && find . -name '*.data' -exec sha256sum {} + | LC_ALL=C sort)
for option in "-o ro" --read-only; do
    # shellcheck disable=SC2086 # an option and its word
    mount_store $option
    same "read-only" HUP "$(cat "$MNT/file")"
    for command in "touch $MNT/other" "rm $MNT/file" "mv $MNT/file $MNT/other" "mkdir $MNT/directory" "chmod 600 $MNT/file" \
        "truncate -s 0 $MNT/file" "ln -s a $MNT/soft" "ln $MNT/file $MNT/hard"; do
        # shellcheck disable=SC2086 # a command with its words
        refused "a change of a read-only mount ($command)" $command
        [[ $message == *"Read-only file system"* ]] || fail "$command: $message"
    done
    unmount_store
    same "logs after $option" "$before" "$(cd "$DATA" && find . -name '*.data' -exec sha256sum {} + | LC_ALL=C sort)"
done

refused "an unknown option" "$BITKV_MOUNT" -o nonsense "$DATA" "$MNT"
[[ $message == *nonsense* ]] || fail "the option isn't named: $message"
refused "a mountpoint that isn't there" "$BITKV_MOUNT" "$DATA" "$WORK/nowhere"
[[ $message == *nowhere* ]] || fail "the mountpoint isn't named: $message"
echo x >"$WORK/plain"
refused "a mountpoint that is a file" "$BITKV_MOUNT" "$DATA" "$WORK/plain"
mkdir "$WORK/foreign"
echo x >"$WORK/foreign/thing"
refused "somebody else's directory" "$BITKV_MOUNT" "$WORK/foreign" "$MNT"
[[ $message == *thing* ]] || fail "what is foreign isn't named: $message"
[ "$(ls -A "$WORK/foreign")" = thing ] || flaw "something was put into a foreign directory: $(ls -A "$WORK/foreign")"
refused "another count of partitions" "$BITKV_MOUNT" --partitions 7 "$DATA" "$MNT"
same "nothing is mounted" 0 "$(grep -c " $MNT fuse" /proc/self/mounts || true)"

# Relative paths, from where the caller stands; the options of fstab.
(cd "$WORK" && "$BITKV_MOUNT" --log-file log -o rw,nofail,noatime,x-systemd.automount,_netdev data mnt)
DAEMON=$(cat "$DATA/LOCK")
same "mounted by relative paths" HUP "$(cat "$MNT/file")"
grep " $MNT fuse" /proc/self/mounts | grep -q noatime || fail "noatime isn't passed on"
unmount_store

# What a clean unmount has written is good enough for the next mount: nothing is read twice.
: >"$WORK/log"
for i in $(seq 8); do
    mount_store
    echo "$i" >"$MNT/again$i"
    unmount_store
done
if grep -q 'not to be trusted' "$WORK/log"; then
    flaw "after $(grep -c 'not to be trusted' "$WORK/log") of 8 clean unmounts a hint is no good: $(grep -m 1 'not to be trusted' "$WORK/log")"
fi

# In the foreground, too.
"$BITKV_MOUNT" -f "$DATA" "$MNT" >"$WORK/foreground" 2>&1 &
foreground=$!
for _ in $(seq 200); do if is_mounted; then break; fi; sleep 0.05; done
same "in the foreground" HUP "$(cat "$MNT/file")"
kill -TERM "$foreground"
wait "$foreground" || fail "its exit code is $?: $(tail -n 3 "$WORK/foreground")"
if is_mounted; then fail "it leaves the mount"; fi
