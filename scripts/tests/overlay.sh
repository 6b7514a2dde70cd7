#!/usr/bin/env bash
# An overlay filesystem whose upper layer is on a mount, as containers have it: removals, renamings, copies and opaque directories are as on a plain
# directory, and are still there after a remount.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
[ "$(id -u)" = 0 ] || skip "needs root (mounts an overlay filesystem)"
need unshare util-linux
need getfattr attr
need python3 python3
scratch
mkdir "$WORK/merged" "$WORK/lower"

# layered UPPER OPTIONS SCRIPT: runs a script where $WORK/lower lies below UPPER/upper. The overlay mount is gone with it, however it ends.
layered() {
    # shellcheck disable=SC2016 # for the other shell
    timeout -k 5 120 unshare --mount --propagation private bash -euc '
        mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$2/upper,workdir=$2/work$3" "$1/merged"
        cd "$1/merged"
        eval "$4"' - "$WORK" "$1" "$2" "$3"
}
# (Overlay filesystems give one whiteout many names.)
is_whiteout() { [ "$(stat -c '%F %t:%T' "$1")" = "character special file 0:0" ]; }
new_upper() { mkdir -p "$1/upper" "$1/work"; }

# Where a plain memory filesystem can't be an upper layer either, there is nothing to see.
mkdir "$WORK/plain"
mount -t tmpfs tmpfs "$WORK/plain" || skip "no filesystem in memory can be mounted"
tidy() { umount -l "$WORK/plain"; }
new_upper "$WORK/plain"
layered "$WORK/plain" "" true || skip "no overlay filesystem can be mounted"

mount_store
FILES=${FILES:-1500} source_tree "$WORK/lower/tree"
for name in removed renamed appended twice; do echo "$name" >"$WORK/lower/$name"; done
mkdir -p "$WORK/lower/again" "$WORK/lower/moved/deep"
touch "$WORK/lower/again/old" "$WORK/lower/moved/deep/file"
chown 1001:1001 "$WORK/lower/appended"
chmod 750 "$WORK/lower/appended"
touch -d '2001-02-03 04:05:06.789' "$WORK/lower/appended" "$WORK/lower/renamed"
setfattr -n user.note -v kept "$WORK/lower/renamed"
ln -s renamed "$WORK/lower/link"
before=$(tree_sum "$WORK/lower")
new_upper "$MNT"

# 1. What is below is as it was; what is changed is above.
layered "$MNT" "" '
    rm removed
    mv renamed new-name
    echo more >>appended
    echo up >twice; mv twice twice-moved
    rm -r again; mkdir again; echo new >again/new
    rm link; ln -s new-name link
    ln new-name second-name'
same "the lower layer" "$before" "$(tree_sum "$WORK/lower")"
for name in removed renamed twice; do
    is_whiteout "$MNT/upper/$name" || fail "$name leaves no whiteout: $(stat "$MNT/upper/$name" 2>&1)"
done
same "an opaque directory" y "$(getfattr --absolute-names --only-values -n trusted.overlay.opaque "$MNT/upper/again")"
same "a moved copy" "renamed 2001-02-03 04:05:06.789000000 kept" \
    "$(cat "$MNT/upper/new-name") $(stat -c %y "$MNT/upper/new-name" | cut -d' ' -f1,2) $(getfattr --absolute-names --only-values -n user.note "$MNT/upper/new-name")"
same "owner and mode of a copy" "1001:1001 750" "$(stat -c '%u:%g %a' "$MNT/upper/appended")"
# shellcheck disable=SC2016 # for the other shell
looks='[ ! -e removed ] && [ ! -e renamed ] && [ ! -e twice ]
    [ "$(cat new-name second-name twice-moved appended link | xargs)" = "renamed renamed up appended more renamed" ]
    [ "$(ls again)" = new ] && [ "$(stat -c %h new-name)" = 2 ]
    [ "$(ls | xargs)" = "again appended link moved new-name second-name tree twice-moved" ]'
layered "$MNT" "" "$looks" || fail "mounted anew the layers look otherwise"

# 2. After the daemon was killed as well.
kill_daemon
mount_store
layered "$MNT" "" "$looks" || fail "after kill -9 the layers look otherwise"

# 3. A directory that moves with all that is below it, where that was asked for.
layered "$MNT" ,redirect_dir=on '
    python3 -c "import os; os.rename(\"moved\", \"elsewhere\")"
    rm elsewhere/deep/file; echo other >elsewhere/deep/other'
is_whiteout "$MNT/upper/moved" || fail "a moved directory leaves no whiteout"
# shellcheck disable=SC2016 # for the other shell
layered "$MNT" ,redirect_dir=on '[ "$(ls elsewhere/deep)" = other ] && [ ! -e moved ]' || fail "a moved directory looks otherwise"

# 4. A tree with a day's work in it, on this upper layer and on one in memory.
# shellcheck disable=SC2016 # for the other shell
work='cd tree
    find . -type f | LC_ALL=C sort | awk "NR % 3 == 0" | xargs -d "\n" rm
    find . -type f | LC_ALL=C sort | awk "NR % 5 == 0" | while read -r file; do echo changed >>"$file"; done
    find . -type f | LC_ALL=C sort | awk "NR % 7 == 0" | while read -r file; do mv "$file" "$file.moved"; done
    find . -mindepth 1 -maxdepth 1 -type d | LC_ALL=C sort | head -n 3 | while read -r directory; do
        rm -r "$directory"
        mkdir "$directory"
        echo fresh >"$directory/fresh"
    done
    find . -printf "%P %y %m\n" | LC_ALL=C sort
    find . -type f | LC_ALL=C sort | xargs -d "\n" sha256sum'
layered "$MNT" "" "$work" >"$WORK/ours"
layered "$WORK/plain" "" "$work" >"$WORK/theirs"
cmp "$WORK/theirs" "$WORK/ours" || fail "a tree in the layers: $(diff "$WORK/theirs" "$WORK/ours" | head -n 5)"
layered "$MNT" "" 'rm -r tree && [ ! -e tree ]'
is_whiteout "$MNT/upper/tree" || fail "a removed tree leaves no whiteout"
same "the lower layer" "$before" "$(tree_sum "$WORK/lower")"
unmount_store
"$BITKV" fsck "$DATA" || fail "fsck finds errors"
