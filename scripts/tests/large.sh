#!/usr/bin/env bash
# One large file: identical at once, after a remount, after a compaction; and its space comes back. SIZE_MB=1024 for the long form.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
SIZE_MB=${SIZE_MB:-64}
scratch
# Small segments: the file lies in many of them.
mount_store --segment-size 16M
head -c "${SIZE_MB}M" /dev/urandom >"$WORK/random"
sum=$(sha256sum <"$WORK/random")
cp "$WORK/random" "$MNT/large"
same "at once" "$sum" "$(sha256sum <"$MNT/large")"
unmount_store
mount_store --segment-size 16M
same "after a remount" "$sum" "$(sha256sum <"$MNT/large")"
# Written again: all of the old bytes are dead.
cp "$WORK/random" "$MNT/large"
if [ -z "$TARGET" ]; then
    echo all wait >"$MNT/.bitkv/compact"
    same "after a compaction" "$sum" "$(sha256sum <"$MNT/large")"
    unmount_store
    mount_store --segment-size 16M
    same "after a compaction and a remount" "$sum" "$(sha256sum <"$MNT/large")"
    used=$(($(data_bytes) >> 20))
    [ "$used" -lt $((SIZE_MB * 3 / 2 + 64)) ] || fail "$used MiB are taken for a file of $SIZE_MB MiB that was written twice"
    rm "$MNT/large"
    echo all wait >"$MNT/.bitkv/compact"
    unmount_store
    used=$(($(data_bytes) >> 20))
    [ "$used" -lt $((SIZE_MB / 2 + 32)) ] || fail "$used MiB are still taken after a file of $SIZE_MB MiB was removed"
fi
