#!/usr/bin/env bash
# Mounting, unmounting, and what can be in the way.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
echo x >"$MNT/file"
grep -q " $MNT fuse.bitkv " /proc/self/mounts || fail "type: $(grep " $MNT " /proc/self/mounts)"
pid=$(daemon_pid)
mkdir "$WORK/second"
if message=$(timeout 20 "$BITKV_MOUNT" --lock-wait 100ms "$DATA" "$WORK/second" 2>&1); then fail "mounted twice"; fi
[[ $message == *"$pid"* ]] || fail "the holder isn't named: $message"
unmount_store
if is_alive "$pid"; then fail "umount returned before the daemon was gone"; fi
mount_store
kill -9 "$(daemon_pid)"
sleep 0.2
if ls "$MNT" >/dev/null 2>&1; then fail "a dead mount answers"; fi
mount_store
same "mounted over a dead mount" x "$(cat "$MNT/file")"
kill -TERM "$(daemon_pid)"
for _ in $(seq 100); do is_mounted || break; sleep 0.05; done
is_mounted && fail "SIGTERM doesn't end it"
sleep 0.3
mount_store -o ro
same "read-only" x "$(cat "$MNT/file")"
if (echo y >"$MNT/other") 2>/dev/null; then fail "a read-only mount takes changes"; fi
unmount_store
if message=$("$BITKV_MOUNT" -o nonsense "$DATA" "$MNT" 2>&1); then fail "an unknown option is taken"; fi
[[ $message == *nonsense* ]] || fail "the option isn't named: $message"
if message=$("$BITKV_MOUNT" "$DATA" "$WORK/nowhere" 2>&1); then fail "mounted on nothing"; fi
[[ $message == *nowhere* ]] || fail "the mountpoint isn't named: $message"
mkdir "$WORK/foreign" && echo x >"$WORK/foreign/thing"
if message=$("$BITKV_MOUNT" "$WORK/foreign" "$MNT" 2>&1); then fail "a foreign directory is taken"; fi
[[ $message == *thing* ]] || fail "what is foreign isn't named: $message"
mount_store
size=$(df --output=size -B1 "$MNT" | tail -n 1)
same "df shows the disk below" "$(df --output=size -B1 "$DATA" | tail -n 1)" "$size"
head -c 20M /dev/urandom >"$MNT/big"
avail=$(df --output=avail -B1 "$MNT" | tail -n 1)
below=$(df --output=avail -B1 "$DATA" | tail -n 1)
difference=$((avail > below ? avail - below : below - avail))
[ "$difference" -lt 1000000000 ] || fail "df says $avail free, the disk has $below"
