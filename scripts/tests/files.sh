#!/usr/bin/env bash
# Commands on files: the same answers from a mounted store and from one that isn't.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
need getfattr attr
scratch
mount_store

# Everything that a tree can hold.
mkdir -p "$MNT/dir/deep"
printf 'hello\n' >"$MNT/small"
head -c 3000000 /dev/urandom >"$MNT/dir/large"
ln -s ../small "$MNT/dir/soft"
ln -s /etc "$MNT/out"
ln -s loop "$MNT/loop"
ln "$MNT/small" "$MNT/dir/hard"
mkfifo "$MNT/fifo"
: >"$MNT/dir/deep/empty"
: >"$MNT/$(printf 'odd\nname\377')"
chmod 4751 "$MNT/dir/hard"
touch -d '1965-03-02 01:02:03 UTC' "$MNT/dir/deep/empty"

# answers WHAT ROOT: what all commands say, with the root's name taken away.
answers() {
    local root=$1
    for words in "ls ." "ls -l ." "ls --json ." "ls dir dir/soft" "ls --json dir/deep" "stat small dir dir/soft fifo out dir/deep/empty" \
        "stat --json small dir/soft ." "info small dir dir/large" "info --json small dir dir/large dir/soft" "info fifo" "get small" "get dir/soft" \
        "cat small dir/hard dir/../dir/large" "get missing" "get dir" "get fifo" "get out/passwd" "get loop" "cat small missing" "ls small/x" \
        "stat .." "get small dir/soft"; do
        # shellcheck disable=SC2086 # words
        set -- $words
        local command=$1 options=() paths=()
        shift
        for word in "$@"; do
            case $word in
                -*) options+=("$word") ;;
                *) paths+=("$word") ;;
            esac
        done
        local code=0
        echo "== $words"
        "$BITKV" "$command" "${options[@]}" "$root" "${paths[@]}" >"$WORK/out" 2>"$WORK/err" || code=$?
        sed "s#$root#ROOT#g" "$WORK/out" "$WORK/err"
        echo "-- $code"
        [ "$(wc -l <"$WORK/err")" -le 1 ] || flaw "$words: more than a line: $(cat "$WORK/err")"
        # One path at a time, in one word with the store.
        if [ "${#paths[@]}" = 1 ]; then
            "$BITKV" "$command" "${options[@]}" "$root/${paths[0]}" >"$WORK/out2" 2>/dev/null || true
            cmp -s "$WORK/out" "$WORK/out2" || flaw "$words says something else in one word"
        fi
    done
}
sync "$MNT/small"
answers "$MNT" >"$WORK/mounted"
# By the name of the store's directory, while it is mounted.
answers "$DATA" >"$WORK/by-data"
[ "$FLAWS" = 0 ] || fail "$FLAWS flaws"
unmount_store
before=$(cd "$DATA" && find . -name '*.data' -exec sha256sum {} + | LC_ALL=C sort)
answers "$DATA" >"$WORK/unmounted"
same "logs after looking only" "$before" "$(cd "$DATA" && find . -name '*.data' -exec sha256sum {} + | LC_ALL=C sort)"
# Where blocks are given in other units, or times are read: nothing of that is shown, so all of it is the same.
diff "$WORK/mounted" "$WORK/by-data" >"$WORK/diff" || fail "mounted, by its directory's name: $(cat "$WORK/diff")"
diff -a "$WORK/mounted" "$WORK/unmounted" >"$WORK/diff" || fail "mounted and unmounted differ: $(head -c 3000 "$WORK/diff")"
grep -aq '^modified: -152578677.000000000' "$WORK/unmounted" || fail "times before 1970"
grep -aq "is a symbolic link to /etc, which leads out of the store" "$WORK/unmounted" || fail "a link that leads out"
python3 - "$BITKV" "$DATA" <<'PY'
import hashlib, json, subprocess, sys
bitkv, data = sys.argv[1:]
def run(*words): return json.loads(subprocess.run([bitkv, *words], check=True, capture_output=True).stdout)
names = run("ls", "--json", data)
odd = [n for n in names if "name_bytes" in n]
assert len(odd) == 1 and bytes.fromhex(odd[0]["name_bytes"]) == b"odd\nname\xff", odd
info = run("info", "--json", data + "/small")
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8): crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
assert int(info["crc32c"], 16) == crc32c(b"hello\n"), info
large = run("info", "--json", data + "/dir/large")
assert "crc32c" not in large and large["records"] == 1 + -(-3000000 // 16384) == sum(s["records"] for s in large["segments"]), large
assert large["record_bytes"] > 3000000
assert run("stat", "--json", data + "/dir/soft")["target"] == "../small"
PY

# Changing: what is put one way is there the other way.
put() { "$BITKV" put "$@"; }
change() { # change ROOT TAG
    printf '%s' "$2" | put "$1" "new-$2"
    printf 'longer than before: %s' "$2" | put "$1/dir/hard"
    printf 'through the link %s' "$2" | put "$1" dir/soft
    put "$1" "dir/copy-$2" --from "$WORK/mounted"
    refused "a put over a directory" put "$1" dir --from "$WORK/mounted"
    refused "a put into nothing" put "$1" none/x --from "$WORK/mounted"
    [[ $message == *"/none"* ]] || flaw "what is missing isn't named: $message"
    refused "removing a directory that isn't empty" "$BITKV" rm "$1" dir
    [[ $message == *"/dir: Directory not empty; say --recursive --yes"* ]] || flaw "not empty: $message"
    refused "removing the root" "$BITKV" rm "$1" .
    refused "a recursive rm without yes" "$BITKV" rm -r "$1" dir/deep
    "$BITKV" rm "$1" "new-$2" fifo
    "$BITKV" rm --recursive --yes "$1/dir/deep"
}
change "$DATA" offline
mount_store
same "put while unmounted" "longer than before: offline" "$(cat "$MNT/dir/hard")"
same "its permissions" 4751 "$(stat -c %a "$MNT/dir/hard")"
same "through the link" "through the link offline" "$(cat "$MNT/small")"
cmp "$MNT/dir/copy-offline" "$WORK/mounted" || fail "a larger put"
[ ! -e "$MNT/dir/deep" ] && [ ! -e "$MNT/fifo" ] && [ ! -e "$MNT/new-offline" ] || fail "removed while unmounted"
same "nothing is left over" "" "$(find "$MNT" -name '.bitkv-put*')"
mkfifo "$MNT/fifo"
mkdir -p "$MNT/dir/deep/er/still"
touch "$MNT/dir/deep/er/still/x" "$MNT/dir/deep/y"
refused "putting into a missing directory" put "$MNT/none/x"
change "$MNT" mounted
[ ! -e "$MNT/dir/deep" ] && [ ! -e "$MNT/fifo" ] || fail "removed while mounted"
same "the xattr of the partition" "$("$BITKV" info "$MNT/small" | sed -n 's/^partition: //p')" \
    "$(getfattr --absolute-names --only-values -n user.bitkv.partition "$MNT/small")"
refused "a made-up attribute of a large file that isn't cheap" getfattr -n user.bitkv.crc32c "$MNT/dir/large"
same "they aren't listed" "" "$(getfattr -d -m - "$MNT/small" 2>/dev/null)"
# A store that somebody else has open under another name.
mkdir "$WORK/elsewhere"
refused "a path outside of any store" "$BITKV" get "$WORK/elsewhere/x"
[[ $message == *"neither in a mounted store nor"* ]] || flaw "outside: $message"
unmount_store
"$BITKV" fsck "$DATA" || fail "fsck"
same "put while mounted" "longer than before: mounted" "$("$BITKV" get "$DATA/dir/hard")"
[ "$FLAWS" = 0 ] || fail "$FLAWS flaws"
