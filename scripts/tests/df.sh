#!/usr/bin/env bash
# df, du and statfs tell the truth: what is free is what the disk below has free, and what is written shows.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
scratch
mount_store --segment-size 8M
column() { df --output="$1" -B1 "$2" | tail -n 1 | tr -d ' '; }
near() { # near WHAT A B DISTANCE; others write to the same disk meanwhile
    local difference=$(($2 > $3 ? $2 - $3 : $3 - $2))
    [ "$difference" -le "$4" ] || fail "$1: $2 and $3 are $difference apart, more than $4"
}
same "size" "$(column size "$DATA")" "$(column size "$MNT")"
near "free at first" "$(column avail "$MNT")" "$(column avail "$DATA")" 200000000
used=$(column used "$MNT")
head -c 100M /dev/urandom >"$MNT/large"
sync -f "$MNT/large"
near "free after 100 MiB" "$(column avail "$MNT")" "$(column avail "$DATA")" 200000000
near "used after 100 MiB" "$(($(column used "$MNT") - used))" 104857600 80000000
same "size of the file" 104857600 "$(stat -c %s "$MNT/large")"
near "du of the file" "$(du -B1 "$MNT/large" | cut -f 1)" 104857600 1000000
# Inodes: each file is one.
inodes=$(column iused "$MNT")
mkdir "$MNT/many"
for i in $(seq 300); do echo "$i" >"$MNT/many/$i"; done
same "inodes in use after 300 files and a directory" $((inodes + 301)) "$(column iused "$MNT")"
[ "$(column iavail "$MNT")" -gt 1000 ] || fail "df says that hardly any inode is free: $(column iavail "$MNT")"
same "longest name" 255 "$(stat -f -c %l "$MNT")"
same "filesystem type" fuse.bitkv "$(column fstype "$MNT")"
# du asks every file; the control directory is none of them.
same "du counts what was written" $((100 + 1)) "$(du --apparent-size -m "$MNT" | tail -n 1 | cut -f 1)"
rm -r "$MNT/large" "$MNT/many"
same "inodes in use at the end" $((inodes - 1)) "$(column iused "$MNT")"
