package audit

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ringfence/ringfence/core/ident"
)

// history is a log as a store keeps it.
type history struct {
	policy Policy
	signer note.Signer
	head   Head
	leaves [][]byte
	hashes []Hash
	points []StoredCheckpoint
	opened []Opened // what belongs in a bundle with private values
}

var start = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

// grown is a log of n entries with a checkpoint after every tenth.
func grown(t testing.TB, n int) *history {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "test")
	if err != nil {
		t.Fatal(err)
	}
	h := &history{}
	tenant := ident.Tenant{7}
	h.policy.Origin = Origin("test", tenant)
	if h.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if h.policy.Verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e := Event{ID: ident.Entry{1, byte(i >> 8), byte(i)}, Action: DeviceCreated, Target: Target{Kind: "device", ID: fmt.Sprint(i)}, Outcome: OK,
			Changes: []Change{Set("name", "", "pump"), Set("state", "", "active")}}
		e.Changes[0].New.Nonce = [16]byte{byte(i)}
		out, err := Append(h.head, Context{Tenant: tenant, ActorKind: "human", Actor: "usr_x", AuthzRev: 3}, []Event{e}, start.Add(time.Duration(i)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		h.head = out.Head
		h.leaves = append(h.leaves, out.Entries[0].Leaf)
		h.opened = append(h.opened, Opened{Seq: uint64(i), Field: "name", New: true, Nonce: e.Changes[0].New.Nonce, Value: "pump"})
		h.hashes = append(h.hashes, out.Hashes...)
		if i%10 == 9 {
			h.checkpoint(t)
		}
	}
	if len(h.points) == 0 || h.points[len(h.points)-1].Size != h.head.Size {
		h.checkpoint(t)
	}
	return h
}

func (h *history) checkpoint(t testing.TB) {
	t.Helper()
	signed, err := Checkpoint{Origin: h.policy.Origin, Size: h.head.Size, Root: h.head.Root()}.Sign(h.signer)
	if err != nil {
		t.Fatal(err)
	}
	h.points = append(h.points, StoredCheckpoint{Size: h.head.Size, Note: signed})
}

func (h *history) bundle(t testing.TB) []byte { t.Helper(); return h.pack(t, false) }

func (h *history) pack(t testing.TB, private bool) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewBundleWriter(&b)
	for _, p := range h.points {
		if err := w.Checkpoint(p); err != nil {
			t.Fatal(err)
		}
	}
	hashes := h.hashes
	for {
		from, to := w.ChunkRange(uint64(len(h.leaves)))
		if from >= to {
			break
		}
		first, end := HashRange(from, to)
		n := min(int(end-first), len(hashes))
		if err := w.Chunk(h.leaves[from:to], hashes[:n]); err != nil {
			t.Fatal(err)
		}
		hashes = hashes[n:]
		if private {
			if err := w.Private(slices.DeleteFunc(slices.Clone(h.opened), func(o Opened) bool { return o.Seq < from || o.Seq >= to && to < uint64(len(h.leaves)) })); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (h *history) verify(t testing.TB, since []byte) Report {
	t.Helper()
	r, err := Verify(bytes.NewReader(h.bundle(t)), h.policy, since, Serial)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rehash makes the stored hashes fit the leaves again, as an attacker with the database can.
func (h *history) rehash() {
	h.head, h.hashes = Head{}, nil
	for _, l := range h.leaves {
		h.hashes = append(h.hashes, h.head.push(tlog.RecordHash(l))...)
	}
}

func TestUntouchedLogIsGood(t *testing.T) {
	for _, n := range []int{1, 2, 9, 10, 57} {
		h := grown(t, n)
		if r := h.verify(t, nil); r.Verdict != Good || r.Entries != uint64(n) || r.Bad != -1 {
			t.Fatalf("%d entries: %+v", n, r)
		}
		if r := h.verify(t, h.points[0].Note); r.Verdict != Good || !r.Since {
			t.Fatalf("%d entries since the first checkpoint: %+v", n, r)
		}
	}
}

func TestStoredHashesAreThoseOfTlog(t *testing.T) {
	h := grown(t, 40)
	reader := tlog.HashReaderFunc(func(idx []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(idx))
		for i, x := range idx {
			out[i] = h.hashes[x]
		}
		return out, nil
	})
	for n := range int64(40) {
		want, err := tlog.StoredHashesForRecordHash(n, tlog.RecordHash(h.leaves[n]), reader)
		if err != nil {
			t.Fatal(err)
		}
		first, end := HashRange(uint64(n), uint64(n+1))
		if !slices.Equal(h.hashes[first:end], want) {
			t.Fatalf("entry %d: other hashes than tlog's", n)
		}
	}
	root, err := tlog.TreeHash(40, reader)
	if err != nil || root != h.head.Root() {
		t.Fatalf("another root than tlog's: %v", err)
	}
	if empty := (Head{}).Root(); empty != tlogEmpty(t) {
		t.Fatal("another root of the empty tree than tlog's")
	}
}

func tlogEmpty(t *testing.T) tlog.Hash {
	t.Helper()
	h, err := tlog.TreeHash(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestEveryFlippedByteIsFoundAtItsEntry(t *testing.T) {
	h := grown(t, 12)
	for i := range h.leaves {
		for at := range h.leaves[i] {
			was := h.leaves[i][at]
			h.leaves[i][at] ^= 1
			if r := h.verify(t, nil); r.Verdict != Tampered || (r.Bad != int64(i) && was^1 != '\n') || r.Bad >= 0 && r.Entries != uint64(r.Bad)+1 {
				t.Fatalf("entry %d, byte %d: %+v", i, at, r)
			}
			h.leaves[i][at] = was
		}
	}
	for i := range h.hashes {
		for at := range h.hashes[i] {
			h.hashes[i][at] ^= 1
			r := h.verify(t, nil)
			h.hashes[i][at] ^= 1
			if seq, _ := StoredWith(int64(i)); r.Verdict != Tampered || r.Bad != int64(seq) {
				t.Fatalf("hash %d, byte %d: %+v", i, at, r)
			}
		}
	}
}

// Of a larger log not the whole bundle is read for each byte: the verifier is asked about the entry, as it stands before it.
func TestAFlippedByteOfAThousandEntriesIsFound(t *testing.T) {
	h, each := grown(t, 1000), 13 // of so many bytes one, at another place in each entry
	if os.Getenv("RINGFENCE_LONG") != "" {
		each = 1
	}
	v := verifier{policy: h.policy, points: []Checkpoint{{Size: h.head.Size, Root: h.head.Root()}}, report: Report{Bad: -1}}
	flipped := 0
	for i, leaf := range h.leaves {
		var raw []byte
		for first, end := HashRange(uint64(i), uint64(i+1)); first < end; first++ {
			raw = append(raw, h.hashes[first][:]...)
		}
		for _, part := range [][]byte{leaf, raw} {
			for at := i % each; at < len(part); at += each {
				bit := byte(1) << (at % 8)
				part[at] ^= bit
				then := v
				then.head.Edge = slices.Clone(v.head.Edge)
				j := judge(leaf)
				if _, err := then.entry(&j, raw); err == nil || then.report.Verdict != Tampered || then.report.Bad != int64(i) {
					t.Fatalf("entry %d, byte %d: %+v", i, at, then.report)
				}
				part[at] ^= bit
				flipped++
			}
		}
		j := judge(leaf)
		if _, err := v.entry(&j, raw); err != nil {
			t.Fatalf("entry %d as it was: %+v", i, v.report)
		}
	}
	if flipped < 300_000/each {
		t.Errorf("%d bytes of %d entries", flipped, len(h.leaves))
	}
}

// Whatever bit of a signed checkpoint is turned, the text's, a signature's or its name's: it is found, and which checkpoint it is.
// One character holds bits of the key's hash and of the signature: with both wrong, the note is like one that somebody else signed.
func TestEveryFlippedBitOfACheckpointIsFound(t *testing.T) {
	h := grown(t, 12)
	for n, p := range h.points {
		sized, shared := 0, bytes.LastIndexByte(p.Note, ' ')+1+32/6
		for at := range p.Note {
			for bit := range 8 {
				p.Note[at] ^= 1 << bit
				r := h.verify(t, nil)
				p.Note[at] ^= 1 << bit
				name := fmt.Sprintf("Checkpoint %d of the bundle", n+1)
				if r.Verdict == Incomplete && at == shared {
					r.Verdict = Tampered
				}
				if r.Verdict != Tampered || r.Bad != -1 || r.From != r.To || !strings.HasPrefix(r.Reason, name) {
					t.Fatalf("checkpoint %d, byte %d, bit %d: %+v", n+1, at, bit, r)
				}
				if strings.HasPrefix(r.Reason, fmt.Sprintf("%s, which says that it is of size %d,", name, p.Size)) {
					sized++
				}
			}
		}
		if sized < 4*len(p.Note) {
			t.Errorf("of %d bits turned only %d leave the size of checkpoint %d readable", 8*len(p.Note), sized, n+1)
		}
	}
	h.points[1].Note = []byte("no note")
	if r := h.verify(t, nil); r.Verdict != Tampered || r.Reason != "Checkpoint 2 of the bundle is not what the policy's log key signed." {
		t.Errorf("no note: %+v", r)
	}
}

func TestTamperingIsFoundWithTheFirstBadIndex(t *testing.T) {
	re := func(h *history, i int, from, to string) {
		h.leaves[i] = bytes.Replace(h.leaves[i], []byte(from), []byte(to), 1)
	}
	for _, c := range []struct {
		name string
		do   func(*history)
		bad  int64
	}{
		{"deleted", func(h *history) { h.leaves = slices.Delete(h.leaves, 13, 14) }, 13},
		{"swapped", func(h *history) { h.leaves[5], h.leaves[6] = h.leaves[6], h.leaves[5] }, 5},
		{"duplicated", func(h *history) { h.leaves = slices.Insert(h.leaves, 8, h.leaves[7]) }, 8},
		{"inserted", func(h *history) { h.leaves = slices.Insert(h.leaves, 20, []byte(`{"v":1}`)) }, 20},
		{"re-dated", func(h *history) { re(h, 17, "10:00:17", "09:00:17") }, 17},
		{"cut off", func(h *history) { h.leaves = h.leaves[:25] }, 25},
		{"a hash missing", func(h *history) { h.hashes = h.hashes[:len(h.hashes)-1] }, 29},
		{"one more behind the end", func(h *history) { h.leaves = append(h.leaves, h.leaves[29]) }, 30},
	} {
		h := grown(t, 30)
		c.do(h)
		if r := h.verify(t, nil); r.Verdict != Tampered || r.Bad != c.bad {
			t.Errorf("%s: %+v, want bad index %d", c.name, r, c.bad)
		}
	}
}

func TestRecomputedHashesAreFoundByTheNextCheckpoint(t *testing.T) {
	h := grown(t, 45)
	h.leaves[23] = bytes.Replace(h.leaves[23], []byte(`"usr_x"`), []byte(`"usr_y"`), 1)
	h.rehash()
	if r := h.verify(t, nil); r.Verdict != Tampered || r.Bad != -1 || r.From != 20 || r.To != 30 {
		t.Fatalf("%+v, want the range 20 to 30", r)
	}
}

func TestWholeRollBackIsFoundAgainstAnOlderCheckpointAlone(t *testing.T) {
	h := grown(t, 30)
	kept := h.points[2].Note
	short := grown(t, 1)
	*short = *h
	short.leaves, short.points = h.leaves[:20], h.points[:2]
	short.rehash()
	if r := short.verify(t, nil); r.Verdict != Good || r.Reason == "" {
		t.Fatalf("without an older checkpoint: %+v, want good and a word about roll-backs", r)
	}
	if r := short.verify(t, kept); r.Verdict != Tampered {
		t.Fatalf("against an older checkpoint: %+v", r)
	}
}

func TestForkIsFoundAgainstAnOlderCheckpoint(t *testing.T) {
	h := grown(t, 30)
	fork := *h
	fork.leaves = slices.Clone(h.leaves)
	fork.leaves[3] = bytes.Replace(fork.leaves[3], []byte(`"usr_x"`), []byte(`"usr_y"`), 1)
	fork.points, fork.head = nil, Head{}
	fork.rehash()
	fork.checkpoint(t) // by one who has the key
	if r := fork.verify(t, nil); r.Verdict != Good {
		t.Fatalf("a fork signed by the key itself: %+v", r)
	}
	if r := fork.verify(t, h.points[0].Note); r.Verdict != Tampered {
		t.Fatalf("against an older checkpoint: %+v", r)
	}
}

func TestForeignKeyOrOriginProvesNothing(t *testing.T) {
	h, other := grown(t, 5), grown(t, 5)
	h.policy.Verifier = other.policy.Verifier
	if r := h.verify(t, nil); r.Verdict != Incomplete {
		t.Fatalf("another key: %+v", r)
	}
	h = grown(t, 5)
	h.policy.Origin = Origin("test", ident.Tenant{8})
	if r := h.verify(t, nil); r.Verdict != Incomplete {
		t.Fatalf("another origin: %+v", r)
	}
	h, other = grown(t, 20), grown(t, 20)
	h.points[1] = other.points[1]
	if r := h.verify(t, nil); r.Verdict != Incomplete || !strings.HasPrefix(r.Reason, "Checkpoint 2 of the bundle, which says that it is of size 20,") {
		t.Fatalf("one of another key: %+v", r)
	}
}

func TestBundleCutAnywhereIsNeverGood(t *testing.T) {
	h := grown(t, 30)
	whole := h.bundle(t)
	for cut := 0; contents(t, whole[:cut]) != contents(t, whole); cut += 97 {
		r, err := Verify(bytes.NewReader(whole[:cut]), h.policy, nil, Serial)
		if err == nil && r.Verdict == Good {
			t.Fatalf("cut at %d of %d: good", cut, len(whole))
		}
	}
}

func TestProofHoldsForItsEntryAlone(t *testing.T) {
	h := grown(t, 30)
	last := h.points[len(h.points)-1]
	hashes := func(idx []int64) ([]Hash, error) {
		out := make([]Hash, len(idx))
		for i, x := range idx {
			out[i] = h.hashes[x]
		}
		return out, nil
	}
	for i := range h.leaves {
		p, err := Prove(uint64(i), last.Size, last.Note, hashes)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseProof(p.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckProof(back, h.leaves[i], h.policy.Origin, h.policy.Verifier); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if err := CheckProof(back, h.leaves[(i+1)%30], h.policy.Origin, h.policy.Verifier); err == nil {
			t.Fatalf("entry %d: the proof holds for another leaf", i)
		}
		p.Extra = h.leaves[i]
		whole, err := ParseProof(p.String())
		if err != nil || !IsProof(p.String()) || CheckProof(whole, whole.Extra, h.policy.Origin, h.policy.Verifier) != nil {
			t.Fatalf("entry %d: a receipt that carries its leaf: %v", i, err)
		}
		back.Index = (back.Index + 1) % 30
		if err := CheckProof(back, h.leaves[i], h.policy.Origin, h.policy.Verifier); err == nil {
			t.Fatalf("entry %d: the proof holds at another index", i)
		}
	}
}

func TestClockSetBackIsNoTampering(t *testing.T) {
	h := grown(t, 3)
	e := Event{ID: ident.Entry{9}, Action: DeviceCreated, Target: Target{Kind: "device"}, Outcome: OK}
	out, err := Append(h.head, Context{Tenant: ident.Tenant{7}, Actor: "x", ActorKind: "human"}, []Event{e}, start.Add(-time.Hour))
	if err != nil || out.Entries[0].At.Before(h.head.Last) {
		t.Fatalf("%v, %v", out.Entries, err)
	}
}

func TestPersonalValuesAreCommittedAndSecretsSayOnlyThatTheyChanged(t *testing.T) {
	e := Event{ID: ident.Entry{9}, Action: DeviceCreated, Target: Target{Kind: "device"}, Outcome: OK, Changes: []Change{
		Set("name", "", "Ana's pump"), Set("nobody declared this", "", "canary"), Set("password", "a", "hunter2"), Set("state", "", "active"), Set("login", "", "bo@acme.example"),
	}, Address: Personal{Value: "192.0.2.7"}}
	e, err := Complete(e, func(b []byte) { _, _ = rand.Read(b) }, func(s string) ([]byte, error) { return []byte("sealed"), nil },
		func(field, value string) string { return Digest("0001", []byte("key"), field, value) })
	if err != nil {
		t.Fatal(err)
	}
	out, err := Append(Head{}, Context{Tenant: ident.Tenant{7}, Actor: "x", ActorKind: "human"}, []Event{e}, start)
	if err != nil {
		t.Fatal(err)
	}
	leaf := out.Entries[0].Leaf
	for _, hidden := range []string{"Ana", "canary", "hunter2", "192.0.2.7", "bo@"} {
		if bytes.Contains(leaf, []byte(hidden)) {
			t.Errorf("%q stands in clear: %s", hidden, leaf)
		}
	}
	for _, shown := range []string{`"new":"active"`, `"field":"password","new":"changed","old":"changed"`, Commitment("name", e.Changes[0].New), Digest("0001", []byte("key"), "login", "bo@acme.example")} {
		if !bytes.Contains(leaf, []byte(shown)) {
			t.Errorf("%q is missing: %s", shown, leaf)
		}
	}
	if len(out.Entries[0].Private) != 3 {
		t.Errorf("%d private rows, want those of name, the undeclared field and the address", len(out.Entries[0].Private))
	}
}

func TestCanonicalFormIsOneSpelling(t *testing.T) {
	w := writer{}
	w.open()
	w.str("k", "a\"\\\b\t\n\f\r\x01\u2028é\xff")
	w.num("n", -5)
	w.close()
	if want := "{\"k\":\"a\\\"\\\\\\b\\t\\n\\f\\r\\u0001\u2028é\ufffd\",\"n\":-5}"; string(w.b) != want {
		t.Fatalf("got %s, want %s", w.b, want)
	}
}

func FuzzVerifyNeverPanicsNorBelieves(f *testing.F) {
	h := grown(f, 12)
	good, private := h.bundle(f), h.pack(f, true)
	f.Add(good)
	f.Add(private)
	f.Add(good[:2000])
	f.Add([]byte("not a tar"))
	want, wantPrivate := contents(f, good), contents(f, private)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Verify(bytes.NewReader(b), h.policy, nil, Serial)
		if err == nil && r.Verdict == Good && contents(t, b) != want && contents(t, b) != wantPrivate {
			t.Fatalf("another bundle was called good: %+v", r)
		}
	})
}

// contents is what a bundle says of entries, however its archive is written.
func contents(t testing.TB, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err != nil {
			return out.String()
		}
		if len(h.Name) > 6 && h.Name[:6] == "chunk/" {
			_, _ = io.Copy(&out, r)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	f.Add(Proof{Index: 3, Path: []Hash{{1}, {2}}, Checkpoint: []byte("x\n")}.String())
	f.Add("c2sp.org/tlog-proof@v1\nextra aGk=\nindex 0\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseProof(s); err == nil && p.Index > 1<<62 {
			t.Fatal("an index beyond what a log can hold")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	b.ReportAllocs()
	h := grown(b, 1000)
	e := Event{ID: ident.Entry{9}, Action: DeviceCreated, Target: Target{Kind: "device", ID: "dev_x"}, Outcome: OK, Changes: []Change{Set("name", "", "x"), Set("state", "", "active")}}
	for b.Loop() {
		if _, err := Append(h.head, Context{Tenant: ident.Tenant{7}, Actor: "x", ActorKind: "human"}, []Event{e}, start); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	b.ReportAllocs()
	h := grown(b, 20_000)
	raw := h.bundle(b)
	for b.Loop() {
		if r, err := Verify(bytes.NewReader(raw), h.policy, nil, Serial); err != nil || r.Verdict != Good {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20_000, "ns/entry")
}
