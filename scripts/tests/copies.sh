#!/usr/bin/env bash
# Copies of a store: by hard links, as a dump, as an archive; of a mounted store while it is used, and of one that isn't mounted.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
need setfattr attr
scratch
mount_store --segment-size 4M --partitions 2

# Everything that a tree can hold.
make_tree() { # make_tree DIRECTORY
    mkdir -p "$1/dir/deep/er" "$1/empty"
    printf 'hello\n' >"$1/small"
    head -c 3000000 /dev/urandom >"$1/dir/large"
    ln -s ../small "$1/dir/soft"
    ln -s "$(printf 'x%.0s' {1..3000})" "$1/far"
    ln "$1/small" "$1/dir/hard"
    ln "$1/dir/soft" "$1/dir/hardsoft"
    mkfifo "$1/fifo"
    [ "$(id -u)" != 0 ] || mknod "$1/null" c 1 3
    : >"$1/dir/deep/er/$(printf 'odd\nname\377')"
    mkdir -p "$1/$(printf 'n%.0s' {1..200})/$(printf 'm%.0s' {1..200})"
    echo long >"$1/$(printf 'n%.0s' {1..200})/$(printf 'm%.0s' {1..200})/$(printf 'o%.0s' {1..200})"
    truncate -s 1T "$1/holes"
    printf 'middle' | dd of="$1/holes" bs=1 seek=500G conv=notrunc status=none
    printf 'end' | dd of="$1/holes" bs=1 seek=$(((1 << 40) - 3)) conv=notrunc status=none
    truncate -s 1M "$1/only-a-hole"
    setfattr -n user.colour -v red "$1/small"
    setfattr -n user.binary -v 0x00ff0a "$1/dir"
    chmod 4751 "$1/dir/large"
    chmod 1777 "$1/empty"
    for i in $(seq 300); do echo "$i" >"$1/dir/deep/file$i"; done
    touch -h -d '2001-02-03 04:05:06.789012345 UTC' "$1/dir/soft" "$1/small" "$1/far"
    touch -d '1965-03-02 01:02:03 UTC' "$1/dir/deep/file7"
    touch -d '2011-01-01 00:00:00.5 UTC' "$1/dir/deep/er" "$1/dir/deep" "$1/dir" "$1/empty" "$1"
}
# What a tree holds, with everything that a copy must keep; large holes are not read.
tree_of() {
    (
        cd "$1"
        find . -path ./.bitkv -prune -o -printf '%P %y %m %n %U %G %s %T@ %l\n' | LC_ALL=C sort
        find . -type f -size -100M -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        dd if=holes bs=1 skip=500G count=10 status=none | od -c
        tail -c 8 holes | od -c
        find . -exec getfattr -h -d -m - -e hex {} + | LC_ALL=C sort
    )
}
make_tree "$MNT"
sync "$MNT/small"
tree_of "$MNT" >"$WORK/tree"
is_copy() { # is_copy WHAT DATA: a store that has the same tree, and is sound
    "$BITKV" fsck "$2" >"$WORK/fsck" || fail "$1: fsck: $(cat "$WORK/fsck")"
    mkdir -p "$WORK/other"
    "$BITKV_MOUNT" "$2" "$WORK/other"
    tree_of "$WORK/other" >"$WORK/tree2"
    "$BITKV" umount "$WORK/other"
    diff -a "$WORK/tree" "$WORK/tree2" >"$WORK/diff" || fail "$1: $(head -n 20 "$WORK/diff")"
}

# 1. Backup: of a mounted store, of the copy (which isn't mounted), and what refuses.
"$BITKV" backup "$MNT" "$WORK/backup"
is_copy "a backup" "$WORK/backup"
"$BITKV" backup "$WORK/backup" "$WORK/again"
is_copy "a backup of a backup" "$WORK/again"
refused "a backup into what isn't empty" "$BITKV" backup "$MNT" "$WORK/again"
[[ $message == *"empty"* ]] || flaw "not empty: $message"
refused "a backup into the store" "$BITKV" backup "$MNT" "$DATA/backup"
refused "a backup into the mount" "$BITKV" backup "$MNT" "$MNT/backup"
refused "a backup under a missing directory" "$BITKV" backup "$MNT" "$WORK/none/backup"
if [ "$(stat -c %d /dev/shm)" != "$(stat -c %d "$WORK")" ] && [ -w /dev/shm ]; then
    refused "a backup on another filesystem" "$BITKV" backup "$MNT" "/dev/shm/bitkv-test.$$"
    [[ $message == *"hard links need the filesystem"* ]] || flaw "another filesystem: $message"
    [ ! -e "/dev/shm/bitkv-test.$$" ] || flaw "something is left on the other filesystem"
fi
[ "$FLAWS" = 0 ] || fail "$FLAWS flaws"

# While everything is in motion: each client's files in a copy are 1 to N, whole; and what was there before the call is there.
client() { for i in $(seq 100000); do printf '%s %s' "$i" "$i" >"$MNT/moving$1/.new" && mv "$MNT/moving$1/.new" "$MNT/moving$1/$i" || return 0; [ $((i % 50)) != 0 ] || sync "$MNT/moving$1/$i"; done; }
clients=()
for c in 1 2 3; do
    mkdir "$MNT/moving$c"
    client "$c" 2>/dev/null &
    clients+=($!)
done
(while echo "all wait" >"$MNT/.bitkv/compact" && head -c 2000000 /dev/urandom >"$MNT/churn"; do :; done) 2>/dev/null &
clients+=($!)
for round in 1 2 3 4 5; do
    sleep 0.3
    declare -a before=()
    for c in 1 2 3; do before[c]=$(find "$MNT/moving$c" -name '[0-9]*' | wc -l); done
    "$BITKV" backup "$MNT" "$WORK/moving"
    "$BITKV" fsck "$WORK/moving" >"$WORK/fsck" || fail "round $round: $(cat "$WORK/fsck")"
    for c in 1 2 3; do
        "$BITKV" ls "$WORK/moving" "moving$c" | grep -v '^\.new$' | sort -n >"$WORK/names"
        count=$(wc -l <"$WORK/names")
        seq "$count" | cmp -s - "$WORK/names" || fail "round $round: client $c: $count names, and not 1 to $count"
        [ "$count" -ge "${before[c]}" ] || fail "round $round: client $c: $count of ${before[c]} that were there before"
        [ "$count" = 0 ] || same "the last file" "$count $count" "$("$BITKV" get "$WORK/moving" "moving$c/$count")"
    done
    rm -rf "$WORK/moving"
done

# A dump and an archive of a store that is used.
"$BITKV" dump "$MNT" 2>"$WORK/err" | "$BITKV" load "$WORK/loaded-moving" 2>>"$WORK/err" || fail "dump and load while it moves: $(cat "$WORK/err")"
"$BITKV" fsck "$WORK/loaded-moving" >"$WORK/fsck" || fail "a dump of a used store: $(cat "$WORK/fsck")"
"$BITKV" export "$MNT" 2>"$WORK/err" | tar -tf - >"$WORK/names" || fail "an archive of a used store: $(cat "$WORK/err")"
grep -qx small "$WORK/names" || fail "the archive's names"
kill "${clients[@]}"
wait "${clients[@]}" 2>/dev/null || true
same "no snapshot is left" "" "$(find "$WORK" -maxdepth 1 -name '*.snapshot-*')"
rm -rf "$MNT"/moving? "$MNT/churn"
touch -d '2011-01-01 00:00:00.5 UTC' "$MNT"
unmount_store

# 2. Dump and load.
"$BITKV" dump "$DATA" --output "$WORK/dump" 2>"$WORK/err" || fail "dump: $(cat "$WORK/err")"
"$BITKV" load "$WORK/loaded" --input "$WORK/dump" 2>"$WORK/err" || fail "load: $(cat "$WORK/err")"
is_copy "a loaded dump" "$WORK/loaded"
same "partitions" 2 "$(find "$WORK/loaded" -name 'partition_*' | wc -l)"
"$BITKV" load --partitions 3 "$WORK/loaded3" <"$WORK/dump" 2>/dev/null
same "partitions when told" 3 "$(find "$WORK/loaded3" -name 'partition_*' | wc -l)"
is_copy "a dump in three partitions" "$WORK/loaded3"
refused "a dump over a file" "$BITKV" dump "$DATA" -o "$WORK/dump"
refused "a load over a store" "$BITKV" load "$WORK/loaded" -i "$WORK/dump"
head -c 1000000 "$WORK/dump" >"$WORK/short"
refused "a dump that is cut" "$BITKV" load "$WORK/never" -i "$WORK/short"
[[ $message == *incomplete* ]] || flaw "cut: $message"
cp "$WORK/dump" "$WORK/flipped"
printf '\377' | dd of="$WORK/flipped" bs=1 seek=1500000 conv=notrunc status=none
refused "a dump that is damaged" "$BITKV" load "$WORK/never" -i "$WORK/flipped"
[[ $message == *damaged* ]] || flaw "damaged: $message"
refused "something else" "$BITKV" load "$WORK/never" -i "$WORK/tree"
[ ! -e "$WORK/never" ] && [ ! -e "$WORK/never.loading" ] || flaw "something is left of a load that failed"

# 3. Archives: our own way round, by tar, and from tar.
"$BITKV" export "$DATA" -o "$WORK/tar" 2>"$WORK/err" || fail "export: $(cat "$WORK/err")"
[ "$(stat -c %s "$WORK/tar")" -lt 10000000 ] || flaw "holes are in the archive: $(stat -c %s "$WORK/tar") bytes"
make_store() { # an empty store
    rm -rf "$1"
    "$BITKV_MOUNT" --partitions 2 "$1" "$WORK/other" && "$BITKV" umount "$WORK/other"
}
mkdir -p "$WORK/other"
make_store "$WORK/imported"
"$BITKV" import "$WORK/imported" -i "$WORK/tar" 2>"$WORK/err" || fail "import: $(cat "$WORK/err")"
is_copy "an archive that is imported" "$WORK/imported"
refused "an import over files" "$BITKV" import "$WORK/imported" -i "$WORK/tar"
[[ $message == *--overwrite* ]] || flaw "over files: $message"
"$BITKV" import --overwrite "$WORK/imported" -i "$WORK/tar" 2>/dev/null || fail "import --overwrite"
is_copy "an archive that is imported twice" "$WORK/imported"
# Into a mounted store.
make_store "$WORK/imported2"
"$BITKV_MOUNT" "$WORK/imported2" "$WORK/other"
"$BITKV" import "$WORK/other" <"$WORK/tar" 2>"$WORK/err" || fail "import into a mount: $(cat "$WORK/err")"
"$BITKV" umount "$WORK/other"
is_copy "an archive that is imported into a mount" "$WORK/imported2"
# GNU tar understands ours, and we its own, in its formats.
"$BITKV_MOUNT" "$WORK/imported2" "$WORK/other"
find "$WORK/other" -mindepth 1 -delete
tar -C "$WORK/other" --xattrs --xattrs-include='*' -xpf "$WORK/tar" 2>"$WORK/err" || fail "tar -x: $(cat "$WORK/err")"
"$BITKV" umount "$WORK/other"
is_copy "an archive that tar has unpacked" "$WORK/imported2"
for format in pax gnu; do
    mount_store
    sparse=--sparse
    tar -C "$MNT" --format=$format $sparse --xattrs --xattrs-include='*' -cf "$WORK/gnu" . 2>"$WORK/err" || fail "tar -c: $(cat "$WORK/err")"
    unmount_store
    make_store "$WORK/imported"
    "$BITKV" import "$WORK/imported" -i "$WORK/gnu" 2>"$WORK/err" || fail "import of $format: $(cat "$WORK/err")"
    if [ $format = pax ]; then
        is_copy "an archive that tar has made" "$WORK/imported"
    else
        # This format has whole seconds only, and no attributes.
        same "a file out of an archive in format $format" hello "$("$BITKV" get "$WORK/imported" small)"
        same "a large hole" $((1 << 40)) "$("$BITKV" stat "$WORK/imported" holes | sed -n 's/^size: //p')"
        [ "$("$BITKV" stat "$WORK/imported" holes | sed -n 's/^blocks: //p')" -lt 10000 ] || flaw "the hole is filled"
    fi
done
# Nothing gets out of the store, and nothing is unpacked through a link.
python3 - "$WORK" <<'PY'
import io, sys, tarfile
def make(name, *members):
    with tarfile.open(f"{sys.argv[1]}/{name}", "w") as out:
        for member, data in members:
            out.addfile(member, io.BytesIO(data) if data is not None else None)
def file(name):
    member = tarfile.TarInfo(name); member.size = 1; return member, b"x"
def link(name, to, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name); member.type = kind; member.linkname = to; return member, None
make("up.tar", file("../up"))
make("through.tar", link("out", "/tmp"), file("out/x"))
make("hardlink.tar", link("hl", "../../etc/passwd", tarfile.LNKTYPE))
PY
for wrong in up through hardlink; do
    make_store "$WORK/imported"
    refused "$wrong.tar" "$BITKV" import "$WORK/imported" -i "$WORK/$wrong.tar"
done
refused "an archive that is none" "$BITKV" import "$WORK/imported" -i "$WORK/dump"
refused "export of nothing" "$BITKV" export "$WORK/other"
[ "$FLAWS" = 0 ] || fail "$FLAWS flaws"

# 4. Times that no record knows of yet when the daemon dies: of a file that was renamed, and of the directory.
mount_store
echo moved >"$MNT/to-move"
sync "$MNT/to-move"
sleep 0.02
mv "$MNT/to-move" "$MNT/dir/moved"
times() { stat -c '%.9Z %n' dir dir/moved; }
(cd "$MNT" && times) >"$WORK/times"
kill_daemon
"$BITKV" dump "$DATA" 2>"$WORK/err" | "$BITKV" load "$WORK/loaded-killed" 2>>"$WORK/err" || fail "a dump after a kill: $(cat "$WORK/err")"
for data in "$WORK/loaded-killed" "$DATA"; do
    "$BITKV_MOUNT" "$data" "$WORK/other"
    (cd "$WORK/other" && times) >"$WORK/times2"
    "$BITKV" umount "$WORK/other"
    diff "$WORK/times" "$WORK/times2" >"$WORK/diff" || fail "times in $data: $(cat "$WORK/diff")"
done
