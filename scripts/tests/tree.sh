#!/usr/bin/env bash
# Thousands of source files go in with tar and come back identical: at once, after a remount, after a compaction.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
source_tree "$WORK/source"
mount_store
tar -C "$WORK/source" -cf - . | tar -C "$MNT" -xf -
sum=$(tree_sum "$WORK/source")
same "as unpacked" "$sum" "$(tree_sum "$MNT")"
unmount_store
mount_store
same "after a remount" "$sum" "$(tree_sum "$MNT")"
echo all wait >"$MNT/.bitkv/compact"
same "after a compaction" "$sum" "$(tree_sum "$MNT")"
unmount_store
mount_store
same "after both" "$sum" "$(tree_sum "$MNT")"
same "no error" 0 "$(stat_of crc_errors)"
