#!/usr/bin/env bash
# A flipped byte never comes back as content: an error, a count, and the path in .bitkv/errors. Hints and MANIFEST likewise.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
needs_store
FLIPS=${FLIPS:-60}
scratch
flip() { # flip FILE OFFSET
    python3 - "$1" "$2" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)
    f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 0x40]))
PY
}

# 1. Content that is found by what it says, small (with its attributes) and large (in pieces).
mount_store
mkdir "$MNT/sub"
for i in $(seq 50); do echo "good content number $i" >"$MNT/sub/good$i"; done
{ head -c 30000 /dev/urandom && echo "here is the MARKER-OF-THE-LARGE" && head -c 30000 /dev/urandom; } >"$MNT/sub/large"
echo "here is the MARKER-OF-THE-SMALL" >"$MNT/sub/small"
cp "$MNT/sub/large" "$WORK/large"
unmount_store
"$BITKV" fsck "$DATA" >"$WORK/message" || fail "a sound store isn't clean: $(cat "$WORK/message")"
fsck_says() { # fsck_says CODE DIRECTORY
    local code=0
    "$BITKV" fsck "$2" >"$WORK/message" 2>&1 || code=$?
    same "fsck $2: $(cat "$WORK/message")" "$1" "$code"
}
fsck_says 8 "$WORK/no-such-store"
fsck_says 8 "$MNT"
cp -a "$DATA" "$WORK/pristine"
for victim in large small; do
    marker=MARKER-OF-THE-${victim^^}
    places=0
    for segment in "$DATA"/partition_*/*.data; do
        while IFS=: read -r place _; do
            flip "$segment" "$place"
            places=$((places + 1))
        done < <(grep -obUa "$marker" "$segment")
    done
    [ "$places" -ge 1 ] || fail "$marker is in no segment"
done
fsck_says 4 "$DATA"
("$BITKV" fsck --json "$DATA" || true) | python3 -c 'import json, sys; assert json.load(sys.stdin)["errors"] >= 2' ||
    fail "fsck --json doesn't tell of both"
# A repair shows first what it would do. It removes the file that is lost with its attributes, and leaves the one that has lost a piece.
cp -a "$DATA" "$WORK/repaired"
before=$(tree_sum "$WORK/repaired")
code=0
"$BITKV" fsck --repair "$WORK/repaired" >"$WORK/message" || code=$?
same "fsck --repair" 4 "$code"
grep -q 'a repair would' "$WORK/message" || fail "no proposal: $(cat "$WORK/message")"
same "a store that was only looked at" "$before" "$(tree_sum "$WORK/repaired")"
code=0
"$BITKV" fsck --repair --yes "$WORK/repaired" >"$WORK/message" || code=$?
same "fsck --repair --yes, with a lost piece: $(cat "$WORK/message")" 4 "$code"
fsck_says 4 "$WORK/repaired"
same "what is left" 1 "$(grep -c chunk "$WORK/message")"
if grep -q 'name small' "$WORK/message"; then fail "the name of what is lost is left: $(cat "$WORK/message")"; fi
mount_store
# The bytes before the damage may be given: they are right.
if cat "$MNT/sub/large" >"$WORK/got" 2>"$WORK/message"; then fail "a damaged file reads without an error"; fi
grep -q 'Input/output error' "$WORK/message" || fail "not EIO: $(cat "$WORK/message")"
cmp -n "$(stat -c %s "$WORK/got")" "$WORK/got" "$WORK/large" || fail "wrong bytes came back"
if cat "$MNT/sub/small" >"$WORK/got" 2>"$WORK/message"; then fail "a damaged small file reads without an error"; fi
grep -q 'Input/output error' "$WORK/message" || fail "not EIO: $(cat "$WORK/message")"
[ ! -s "$WORK/got" ] || fail "bytes of a damaged record came back"
[ "$(stat_of crc_errors)" -ge 2 ] || fail "two are damaged, counted are $(stat_of crc_errors)"
for victim in large small; do
    grep -q "/sub/$victim" "$MNT/.bitkv/errors" || flaw "$victim isn't named: $(cat "$MNT/.bitkv/errors")"
done
for i in $(seq 50); do same "the rest is served" "good content number $i" "$(cat "$MNT/sub/good$i")"; done
# Compaction copies nothing that is damaged, and removes nothing whose damage might yet be healed.
echo all wait >"$MNT/.bitkv/compact" || true
if cat "$MNT/sub/large" >/dev/null 2>&1; then fail "after a compaction the damaged file reads"; fi
for i in $(seq 50); do same "the rest after a compaction" "good content number $i" "$(cat "$MNT/sub/good$i")"; done
rm "$MNT/sub/large"
# The damaged small file is its inode's own record: its attributes are lost, its name can be removed.
rm -f "$MNT/sub/small"
for victim in large small; do
    [ ! -e "$MNT/sub/$victim" ] || fail "the damaged $victim file is still there"
done
unmount_store
mount_store
same "names after a remount" 50 "$(find "$MNT/sub" -mindepth 1 | wc -l)"
unmount_store

# 2. Any byte of any segment: opening refuses with a message, or each file is right or fails with EIO. Never anything else.
restore() {
    rm -rf "$DATA"
    cp -a "$WORK/pristine" "$DATA"
}
restore
mount_store
(cd "$MNT" && find . -type f -exec sha256sum {} +) | LC_ALL=C sort >"$WORK/sums"
unmount_store
python3 - "$FLIPS" "$WORK/pristine" "$WORK/plan" <<'PY'
import glob, os, random, sys
r = random.Random(os.environ.get("SEED", "1"))
root = sys.argv[2]
# Only where something was written: the rest of a segment is zeros, allocated ahead.
used = []
for path in sorted(glob.glob(root + "/partition_*/*.data")):
    length = len(open(path, "rb").read().rstrip(b"\0"))
    used.append((os.path.relpath(path, root), length))
with open(sys.argv[3], "w") as plan:
    for i in range(int(sys.argv[1])):
        # Most of them near the beginning, where the header and the many small records are.
        path, length = r.choice([u for u in used if u[1]])
        print(path, r.randrange(min(length, r.choice([64, 4000, length]))), file=plan)
PY
refusals=0
errors=0
unharmed=0
while read -r segment place; do
    restore
    flip "$DATA/$segment" "$place"
    if ! mount_store >"$WORK/message" 2>&1; then
        [ -s "$WORK/message" ] || fail "$segment at $place: refused without a word"
        refusals=$((refusals + 1))
        continue
    fi
    seen=0
    while read -r sum file; do
        if got=$(sha256sum 2>/dev/null <"$MNT/$file"); then
            same "$segment flipped at $place: $file" "$sum" "${got%% *}"
        else
            seen=$((seen + 1))
        fi
    done <"$WORK/sums"
    if [ "$seen" -gt 0 ]; then
        errors=$((errors + 1))
        [ "$(stat_of crc_errors)" -ge 1 ] || fail "$segment flipped at $place: $seen files fail, none is counted"
    else
        unharmed=$((unharmed + 1))
    fi
    # A damaged directory may fail to be listed; but a list that comes without an error is whole.
    if find "$MNT" -type f >"$WORK/names" 2>/dev/null; then
        same "$segment flipped at $place: names" "$(wc -l <"$WORK/sums")" "$(wc -l <"$WORK/names")"
    else
        [ "$seen" -gt 0 ] || fail "$segment flipped at $place: all files can be read, but not listed"
    fi
    unmount_store
done <"$WORK/plan"
echo "$FLIPS bytes flipped: $refusals refused, $errors with failing files, $unharmed without effect"
[ $((refusals + errors)) -ge $((FLIPS / 5)) ] || fail "so few of the flips had an effect that they can't have hit what matters"

# 3. A hint is only an index: damaged, short or gone, everything is there.
for damage in flip0 flip40 flip120 short empty gone; do
    restore
    hints=0
    for hint in "$DATA"/partition_*/*.hint; do
        [ -e "$hint" ] || continue
        hints=$((hints + 1))
        case $damage in
            flip*) if [ "$(stat -c %s "$hint")" -gt "${damage#flip}" ]; then flip "$hint" "${damage#flip}"; fi ;;
            short) truncate -s -5 "$hint" ;;
            empty) : >"$hint" ;;
            gone) rm "$hint" ;;
        esac
    done
    [ "$hints" -ge 1 ] || fail "there are no hints to damage"
    mount_store
    same "files with hints damaged ($damage)" "$(cat "$WORK/sums")" "$( (cd "$MNT" && find . -type f -exec sha256sum {} +) | LC_ALL=C sort)"
    unmount_store
done

# 4. MANIFEST says what all the rest means: any damage to it is refused, and the right one opens again.
restore
size=$(stat -c %s "$DATA/MANIFEST")
for place in 0 9 $((size / 2)) $((size - 1)); do
    flip "$DATA/MANIFEST" "$place"
    refused "MANIFEST damaged at $place" "$BITKV_MOUNT" "$DATA" "$MNT"
    [[ $message == *MANIFEST* ]] || fail "the message doesn't say what is damaged: $message"
    cp "$WORK/pristine/MANIFEST" "$DATA/MANIFEST"
done
: >"$DATA/MANIFEST"
refused "an empty MANIFEST" "$BITKV_MOUNT" "$DATA" "$MNT"
rm "$DATA/MANIFEST"
refused "a store without its MANIFEST" "$BITKV_MOUNT" "$DATA" "$MNT"
cp -p "$WORK/pristine/MANIFEST" "$DATA/MANIFEST"
mount_store
same "with the old MANIFEST" "good content number 7" "$(cat "$MNT/sub/good7")"
