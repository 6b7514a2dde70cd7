#!/usr/bin/env bash
# Thousands of source files go in with tar and come back identical: at once, after a remount, after a compaction, after both.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
source_tree "$WORK/source"
files=$(find "$WORK/source" -type f | wc -l)
[ "$files" -ge "${FILES:-5000}" ] || fail "only $files files to try with"
mount_store --segment-size 8M
tar -C "$WORK/source" -cf - . | tar -C "$MNT" -xf -
sum=$(tree_sum "$WORK/source")
same "as unpacked" "$sum" "$(tree_sum "$MNT")"
stats=$(stat_sum "$MNT")
unmount_store
mount_store --segment-size 8M
same "after a remount" "$sum" "$(tree_sum "$MNT")"
same "inodes and times after a remount" "$stats" "$(stat_sum "$MNT")"
if [ -z "$TARGET" ]; then
    same "files that stats counts" "$files" "$(($(stat_of files) - $(find "$MNT" -mindepth 1 ! -type d ! -type f | wc -l)))"
    # Half of it is written anew and again, so that compaction has something to move between what stays.
    find "$MNT" -type f | LC_ALL=C sort | awk 'NR % 2' >"$WORK/half"
    while IFS= read -r file; do cp -p "$file" "$WORK/one" && cp -p "$WORK/one" "$file"; done <"$WORK/half"
    stats=$(stat_sum "$MNT")
    removed=$(stat_of segments_removed)
    echo all wait >"$MNT/.bitkv/compact"
    same "after a compaction" "$sum" "$(tree_sum "$MNT")"
    [ "$(stat_of segments_removed)" -gt "$removed" ] || fail "the compaction removed no segment"
    unmount_store
    mount_store --segment-size 8M
    same "after a compaction and a remount" "$sum" "$(tree_sum "$MNT")"
    same "inodes and times after all" "$stats" "$(stat_sum "$MNT")"
    same "errors" 0 "$(stat_of crc_errors)"
fi
# And back out by the same way.
mkdir "$WORK/back"
tar -C "$MNT" -cf - . | tar -C "$WORK/back" -xf -
same "packed again" "$sum" "$(tree_sum "$WORK/back")"
