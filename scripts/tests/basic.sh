#!/usr/bin/env bash
# What a user types on the first day.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
cd "$MNT"
echo hello >a
same cat hello "$(cat a)"
echo world >>a
same append $'hello\nworld' "$(cat a)"
cp a b && cmp a b
mv b c && [ ! -e b ] && cmp a c
mkdir -p x/y/z
mv c x/y/z/d
same "moved between directories" $'hello\nworld' "$(cat x/y/z/d)"
ln a hard && same "link count" 2 "$(stat -c %h a)"
ln -s a soft && same readlink a "$(readlink soft)" && cmp a soft
rm a && same "the other name" $'hello\nworld' "$(cat hard)" && same "link count" 1 "$(stat -c %h hard)"
chmod 640 hard && same mode 640 "$(stat -c %a hard)"
touch -d '2001-02-03 04:05:06.789012345' hard
same mtime '2001-02-03 04:05:06.789012345' "$(stat -c %y hard | cut -c 1-29)"
truncate -s 1000000 hole && same size 1000000 "$(stat -c %s hole)"
same "holes are zeros" "$(head -c 1000000 /dev/zero | sha256sum)" "$(sha256sum <hole)"
[ "$(stat -c %b hole)" -lt 100 ] || fail "a hole takes space"
dd if=/dev/urandom of="$WORK/random" bs=7777 count=50 status=none
dd if="$WORK/random" of=copy bs=333 status=none && cmp "$WORK/random" copy
dd if="$WORK/random" of=copy bs=1000 seek=3 count=1 conv=notrunc status=none
same "rewritten inside" "$(head -c 1000 "$WORK/random" | sha256sum)" "$(dd if=copy bs=1000 skip=3 count=1 status=none | sha256sum)"
name=$(printf 'n%.0s' $(seq 255)) && echo long >"$name" && same "long name" long "$(cat "$name")"
if echo no >"${name}x" 2>/dev/null; then fail "256 bytes are too long for a name"; fi
odd=$'odd \t\n\xff name' && echo odd >"$odd" && same "odd name" odd "$(cat "$odd")"
mkdir full && echo 1 >full/1
if rmdir full 2>/dev/null; then fail "rmdir of a full directory"; fi
setfattr -n user.colour -v blue hard && same xattr blue "$(getfattr --only-values -n user.colour hard)"
mkfifo pipe && [ -p pipe ]
exec 7>unlinked && echo data >&7 && rm unlinked && same "open though unlinked" data "$(cat /proc/self/fd/7 | head -n 1)"
exec 7>&-
before=$(tree_sum .)
cd /
unmount_store
mount_store
same "after a remount" "$before" "$(tree_sum "$MNT")"
rm -rf "${MNT:?}"/*
same "empty again" "" "$(ls -A "$MNT")"
