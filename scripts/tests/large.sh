#!/usr/bin/env bash
# One large file: identical at once, after a remount, after a compaction; and its space comes back.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
SIZE_MB=${SIZE_MB:-96}
scratch
mount_store
head -c "${SIZE_MB}M" /dev/urandom >"$WORK/random"
cp "$WORK/random" "$MNT/large"
cmp "$WORK/random" "$MNT/large"
unmount_store
mount_store
cmp "$WORK/random" "$MNT/large"
echo all wait >"$MNT/.bitkv/compact"
cmp "$WORK/random" "$MNT/large"
rm "$MNT/large"
sleep 0.5
echo all wait >"$MNT/.bitkv/compact"
unmount_store
used=$(du -sm "$DATA" | cut -f 1)
[ "$used" -lt $((SIZE_MB / 2)) ] || fail "$used MiB are still taken after a file of $SIZE_MB MiB was removed"
