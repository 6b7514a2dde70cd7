#!/usr/bin/env bash
# A flipped byte never comes back as content: an error, a count, and the path in .bitkv/errors. Hints and MANIFEST likewise.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
scratch
mount_store
mkdir "$MNT/sub"
for i in $(seq 50); do echo "good content number $i" >"$MNT/sub/good$i"; done
{ echo "here is the MARKER-TO-BE-FLIPPED"; head -c 30000 /dev/urandom; } >"$MNT/sub/victim"
sum=$(sha256sum <"$MNT/sub/victim")
unmount_store
flip() { # flip FILE OFFSET
    python3 - "$1" "$2" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)
    f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 0x40]))
PY
}
found=$(grep -obUa -m 1 MARKER-TO-BE-FLIPPED "$DATA"/partition_*/*.data | tail -n 1)
segment=${found%%:*}
offset=$(echo "$found" | cut -d: -f2)
grep -obUa MARKER-TO-BE-FLIPPED "$segment" | cut -d: -f1 | while read -r place; do flip "$segment" "$place"; done
mount_store
if got=$(sha256sum <"$MNT/sub/victim" 2>/dev/null) && [ "$got" != "$sum" ]; then fail "wrong bytes came back"; fi
if cat "$MNT/sub/victim" >/dev/null 2>&1; then fail "a damaged file reads without an error"; fi
[ "$(stat_of crc_errors)" -ge 1 ] || fail "not counted"
grep -q /sub/victim "$MNT/.bitkv/errors" || fail "not named: $(cat "$MNT/.bitkv/errors")"
for i in $(seq 50); do same "the rest is served" "good content number $i" "$(cat "$MNT/sub/good$i")"; done
rm "$MNT/sub/victim"
unmount_store
# The byte back, so that what follows is about something else.
for hint in "$DATA"/partition_*/*.hint; do flip "$hint" 120; done
mount_store
for i in $(seq 50); do same "after damage to a hint" "good content number $i" "$(cat "$MNT/sub/good$i")"; done
unmount_store
cp "$DATA/MANIFEST" "$WORK/manifest"
flip "$DATA/MANIFEST" 30
if message=$(timeout 20 "$BITKV_MOUNT" "$DATA" "$MNT" 2>&1); then fail "a damaged MANIFEST is taken"; fi
[[ $message == *MANIFEST* ]] || fail "the message doesn't say so: $message"
cp "$WORK/manifest" "$DATA/MANIFEST"
mount_store
same "with the old MANIFEST" "good content number 7" "$(cat "$MNT/sub/good7")"
