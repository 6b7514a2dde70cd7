#!/usr/bin/env bash
# What a user types on the first day; all of it again after a remount.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
cd "$MNT"
echo hello >a
same cat hello "$(cat a)"
echo world >>a
same append $'hello\nworld' "$(cat a)"
cp a b
cmp a b
mv b c
[ ! -e b ] || fail "mv left the old name"
cmp a c
mkdir -p x/y/z
mv c x/y/z/d
same "moved between directories" $'hello\nworld' "$(cat x/y/z/d)"
mv x/y moved
same "a directory moved" $'hello\nworld' "$(cat moved/z/d)"
[ ! -e x/y ] || fail "the directory is still where it was"
refused "a directory moved into itself" mv moved moved/z/
echo new >over
mv over moved/z/d
same "moved over a file" new "$(cat moved/z/d)"

ln a hard
same "link count" 2 "$(stat -c %h a)"
same "one inode" "$(stat -c %i a)" "$(stat -c %i hard)"
ln -s a soft
same readlink a "$(readlink soft)"
cmp a soft
rm a
same "the other name" $'hello\nworld' "$(cat hard)"
same "link count" 1 "$(stat -c %h hard)"
refused "a symlink to nothing" cat soft
refused "a hard link to a directory" ln moved again
ln -s loop loop
refused "a symlink to itself" cat loop

chmod 640 hard
same mode 640 "$(stat -c %a hard)"
chmod 7755 hard
same "mode with all bits" 7755 "$(stat -c %a hard)"
(umask 027 && touch masked && mkdir masked-directory)
same "umask, file" 640 "$(stat -c %a masked)"
same "umask, directory" 750 "$(stat -c %a masked-directory)"
touch -d '2001-02-03 04:05:06.789012345' hard
same mtime '2001-02-03 04:05:06.789012345' "$(stat -c %y hard | cut -c 1-29)"
touch -h -d '2002-02-03' soft
same "mtime of a symlink" 2002-02-03 "$(stat -c %y soft | cut -c 1-10)"
before=$(stat -c %y moved)
touch moved/entry
[ "$before" != "$(stat -c %y moved)" ] || fail "a new entry doesn't change its directory's mtime"

truncate -s 1000000 hole
same size 1000000 "$(stat -c %s hole)"
same "holes are zeros" "$(head -c 1000000 /dev/zero | sha256sum)" "$(sha256sum <hole)"
[ "$(stat -c %b hole)" -lt 100 ] || fail "a hole takes space"
truncate -s 3T huge
same "size of a huge hole" 3298534883328 "$(stat -c %s huge)"
same "its end" "0" "$(tail -c 1 huge | od -An -tu1 | tr -d ' ')"
rm huge
head -c 100000 /dev/urandom >shrinks
cp shrinks "$WORK/shrinks"
truncate -s 5001 shrinks
truncate -s 9000 shrinks
{ head -c 5001 "$WORK/shrinks" && head -c 3999 /dev/zero; } | cmp - shrinks || fail "what was cut off came back"
: >shrinks
same "cut to nothing" 0 "$(stat -c %s shrinks)"

dd if=/dev/urandom of="$WORK/random" bs=7777 count=50 status=none
dd if="$WORK/random" of=copy bs=333 status=none
cmp "$WORK/random" copy
# The same change here and there, across the pieces that large files are kept in.
for place in 0 3 16 50 131; do
    for file in copy "$WORK/random"; do
        head -c 1000 /dev/zero | tr '\0' "$place" | dd of="$file" bs=1000 seek="$place" conv=notrunc status=none
    done
    cmp "$WORK/random" copy || fail "rewritten inside, at $place"
done
echo tail | dd of=copy oflag=append conv=notrunc status=none
same "dd that appends" tail "$(tail -c 5 copy)"
same "size after it" $((7777 * 50 + 5)) "$(stat -c %s copy)"

name=$(printf 'n%.0s' {1..255})
echo long >"$name"
same "the longest name" long "$(cat "$name")"
refused "a name of 256 bytes" touch "${name}x"
[[ $message == *"too long"* ]] || fail "256 bytes: $message"
python3 - <<'PY'
import os
# Every byte that a name may have, in names of one byte and in the middle of longer ones.
os.mkdir("bytes")
names = {bytes([b]) for b in range(1, 256) if b not in b"/."} | {b"x" + bytes([b]) + b"y" for b in range(1, 256) if b != 47}
names |= {b"...", b" ", b"-rf", b"a\n\nb", "gr\u00fc\u00df.txt".encode(), b".bitkv", b"*"}
for name in names:
    with open(b"bytes/" + name, "wb") as f:
        f.write(name)
assert set(os.listdir(b"bytes")) == names, names ^ set(os.listdir(b"bytes"))
for name in names:
    assert open(b"bytes/" + name, "rb").read() == name, name
PY
mkdir full
echo 1 >full/1
refused "rmdir of a full directory" rmdir full
[[ $message == *"not empty"* ]] || fail "rmdir: $message"
same "links of a directory" 3 "$(mkdir -p counted/in && stat -c %h counted)"
rmdir counted/in
same "links of an empty one" 2 "$(stat -c %h counted)"
setfattr -n user.colour -v blue hard
same xattr blue "$(getfattr --only-values -n user.colour hard)"
mkfifo pipe
[ -p pipe ] || fail "no fifo"
exec 7<>unlinked
echo data >&7
rm unlinked
same "open though unlinked" data "$(head -n 1 "/proc/$$/fd/7")"
exec 7>&-
cp -a moved copied
same "cp -a" "$(tree_sum moved)" "$(tree_sum copied)"
mkdir -p deep && (cd deep && for _ in $(seq 100); do mkdir d && cd d; done && echo bottom >file)
same "a hundred levels down" bottom "$(cat "deep/$(printf 'd/%.0s' {1..100})file")"
rm -r deep
[ ! -e deep ] || fail "rm -r left something"

# Bytes read again come from the kernel's memory; after a remount they come from the store.
before=$(tree_sum .)
stats=$(stat_sum .)
cd /
unmount_store
mount_store
same "after a remount" "$before" "$(tree_sum "$MNT")"
same "inodes, links, owners and times after a remount" "$stats" "$(stat_sum "$MNT")"
same "xattr after a remount" blue "$(getfattr --only-values -n user.colour "$MNT/hard")"
rm -rf "${MNT:?}"/*
same "empty again" "" "$(ls -A "$MNT")"
unmount_store
mount_store
same "still empty after a remount" "" "$(ls -A "$MNT")"
