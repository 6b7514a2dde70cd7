#!/usr/bin/env bash
# Access control lists by the tools that people use, and through everything that copies a tree or a store.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root (other users)"
need setfacl acl
need getfattr attr
need rsync rsync
need setpriv util-linux
scratch
chmod 755 "$WORK"
mount_store --allow-other --partitions 2
chmod 755 "$MNT"
tidy() { [ ! -d "$WORK/other" ] || umount -l "$WORK/other" 2>/dev/null; }
as() { # as USER COMMAND...
    setpriv --reuid="$1" --regid="$1" --clear-groups "${@:2}"
}
lists_of() {
    (
        cd "$1"
        find . -print0 | LC_ALL=C sort -z | xargs -0 getfacl -n
        find . -printf '%P %m %U %G\n' | LC_ALL=C sort
    )
}

# 1. They are kept to, by everybody but root.
mkdir "$MNT/tree"
echo secret >"$MNT/tree/file"
chmod 600 "$MNT/tree/file"
refused "reading without a right" as 1001 cat "$MNT/tree/file"
setfacl -m u:1001:r "$MNT/tree/file"
same "a right by name" secret "$(as 1001 cat "$MNT/tree/file")"
same "what ls shows" -rw-r-----+ "$(find "$MNT/tree/file" -exec ls -l {} + | cut -c 1-11)"
refused "writing with the right to read" as 1001 tee "$MNT/tree/file"
refused "somebody else" as 1002 cat "$MNT/tree/file"
refused "a stranger's list" as 1001 setfacl -m u:1001:rw "$MNT/tree/file"
chmod g= "$MNT/tree/file"
refused "a right that the mask takes" as 1001 cat "$MNT/tree/file"
chmod g=r "$MNT/tree/file"
setfacl -m u:1001:-,m::r "$MNT/tree/file"
chmod o=r "$MNT/tree/file"
refused "a right of all others, for who is named with none" as 1001 cat "$MNT/tree/file"
same "a right of all others" secret "$(as 1002 cat "$MNT/tree/file")"

# 2. What is made in a directory with a default list has that, and no umask.
mkdir "$MNT/tree/shared"
setfacl -d -m u::rwx,g::-,o::-,u:1001:rwx "$MNT/tree/shared"
setfacl -m u:1001:rwx "$MNT/tree/shared"
(umask 077 && mkdir "$MNT/tree/shared/below" && echo mine >"$MNT/tree/shared/below/file")
as 1001 sh -c "echo ours >>'$MNT/tree/shared/below/file'"
same "both have written" "mine ours" "$(xargs <"$MNT/tree/shared/below/file")"
refused "who isn't named" as 1002 ls "$MNT/tree/shared/below"
same "without execution, which nobody asked for" 660 "$(stat -c %a "$MNT/tree/shared/below/file")"
ln -s file "$MNT/tree/shared/below/link"
mkfifo "$MNT/tree/shared/below/fifo"
setfacl -m g:2001:r "$MNT/tree/shared/below/fifo"

# 3. They are there after a remount, in copies of every sort, and the checker finds nothing.
lists_of "$MNT/tree" >"$WORK/lists"
grep -q 'user:1001:rwx' "$WORK/lists" || fail "getfacl shows no lists: $(cat "$WORK/lists")"
lists_are() { # lists_are WHAT TREE
    lists_of "$2" >"$WORK/lists2"
    diff "$WORK/lists" "$WORK/lists2" >"$WORK/diff" || fail "$1: $(cat "$WORK/diff")"
}
rsync -aHAX "$MNT/tree/" "$MNT/synced"
lists_are "rsync" "$MNT/synced"
same "rsync once more" "" "$(rsync -aHAX --itemize-changes "$MNT/tree/" "$MNT/synced")"
cp -a "$MNT/tree" "$MNT/copied"
lists_are "cp -a" "$MNT/copied"
# In a directory that would pass on a list of its own.
mkdir "$MNT/heir"
setfacl -d -m u:1002:rwx "$MNT/heir"
if [ -z "$TARGET" ]; then
    "$BITKV" export "$MNT" >"$WORK/archive"
    "$BITKV" dump "$MNT" >"$WORK/dump"
    "$BITKV" backup "$MNT" "$WORK/backup"
    # A file that is replaced keeps its list; and one that is new gets what its directory gives.
    echo other | "$BITKV" put "$MNT/tree/file"
    lists_are "put over a file of a mounted store" "$MNT/tree"
    (umask 022 && echo new | "$BITKV" put "$MNT/heir/mounted")
    unmount_store
    echo more | "$BITKV" put "$DATA/tree/file"
    (umask 022 && echo new | "$BITKV" put "$DATA/heir/offline")
    "$BITKV" fsck "$DATA" || fail "fsck finds something"
    "$BITKV" load "$WORK/loaded" <"$WORK/dump"
    "$BITKV" reshard "$WORK/loaded" --partitions 3 --yes
    "$BITKV" fsck "$WORK/loaded"
    mount_store --allow-other
    lists_are "put while unmounted, and a remount" "$MNT/tree"
    same "new in a directory with a default list" "$(getfacl -np "$MNT/heir/mounted" | tail -n +2)" "$(getfacl -np "$MNT/heir/offline" | tail -n +2)"
    getfacl -np "$MNT/heir/offline" | grep -q '^user:1002:rwx' || fail "nothing inherited: $(getfacl -np "$MNT/heir/offline")"
    mkdir "$WORK/other"
    for copy in loaded backup; do
        "$BITKV_MOUNT" "$WORK/$copy" "$WORK/other"
        lists_are "$copy" "$WORK/other/tree"
        "$BITKV" umount "$WORK/other"
    done
    # Unpacked beside what would be passed on, and nothing is.
    "$BITKV_MOUNT" "$WORK/new" "$WORK/other"
    setfacl -d -m u:1003:rwx "$WORK/other"
    "$BITKV" import "$WORK/other" <"$WORK/archive"
    lists_are "import into a mounted store" "$WORK/other/tree"
    "$BITKV" umount "$WORK/other"
    "$BITKV" load "$WORK/new2" <"$WORK/dump"
    "$BITKV" import "$WORK/new2" --overwrite <"$WORK/archive"
    "$BITKV_MOUNT" "$WORK/new2" "$WORK/other"
    lists_are "import while unmounted" "$WORK/other/tree"
    "$BITKV" umount "$WORK/other"
fi

# 4. Gone again.
setfacl -R -b "$MNT/tree"
same "without lists" "" "$(getfacl -R -s -p "$MNT/tree")"
same "no attributes are left" "" "$(getfattr -R -h -m - "$MNT/tree" 2>&1)"
