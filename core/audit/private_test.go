package audit

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

func (h *history) judge(t testing.TB, bundle []byte) Report {
	t.Helper()
	r, err := Verify(bytes.NewReader(bundle), h.policy, nil, Serial)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPrivateValuesAreHeldAgainstTheirCommitments(t *testing.T) {
	h := grown(t, 30)
	if r := h.judge(t, h.pack(t, true)); r.Verdict != Good || r.Private != 30 {
		t.Fatalf("untouched: %+v", r)
	}
	if r := h.judge(t, h.pack(t, false)); r.Verdict != Good || r.Private != 0 {
		t.Fatalf("without them: %+v", r)
	}
	for _, c := range []struct {
		name string
		do   func([]Opened) []Opened
		bad  int64
	}{
		{"another value", func(o []Opened) []Opened { o[3].Value = "valve"; return o }, 3},
		{"another nonce", func(o []Opened) []Opened { o[4].Nonce[0]++; return o }, 4},
		{"another field", func(o []Opened) []Opened { o[5].Field = "email"; return o }, 5},
		{"the old one", func(o []Opened) []Opened { o[6].New = false; return o }, 6},
		{"one is gone", func(o []Opened) []Opened { return slices.Delete(o, 7, 8) }, 7},
		{"the last is gone", func(o []Opened) []Opened { return o[:29] }, 29},
		{"all are gone", func([]Opened) []Opened { return nil }, 0},
		{"one too many", func(o []Opened) []Opened { return slices.Insert(o, 9, o[8]) }, 8},
		{"one behind the end", func(o []Opened) []Opened { return append(o, Opened{Seq: 30, Field: "name"}) }, 29},
		{"two swapped", func(o []Opened) []Opened { o[10], o[11] = o[11], o[10]; return o }, 10},
	} {
		own := grown(t, 30)
		own.opened = c.do(own.opened)
		if r := own.judge(t, own.pack(t, true)); r.Verdict != Tampered || r.Bad != c.bad || r.Reason == "" {
			t.Errorf("%s: %+v, want bad index %d", c.name, r, c.bad)
		}
	}
}

// A value that says by a flipped byte that it is another entry's is found there.
func TestEveryFlippedByteOfAPrivateValueIsFoundAtItsEntry(t *testing.T) {
	h := grown(t, 3)
	whole := h.pack(t, true)
	for i, o := range h.opened {
		from := bytes.Index(whole, o.line())
		for at := from; at < from+len(o.line()); at++ {
			whole[at] ^= 1
			if r := h.judge(t, whole); r.Verdict != Tampered || r.Bad != int64(i) && !bytes.Contains(whole[from:at+9], fmt.Appendf(nil, `"seq":%d,`, r.Bad)) {
				t.Fatalf("value %d, byte %d: %+v", i, at-from, r)
			}
			whole[at] ^= 1
		}
	}
}

// A bad entry is told before a bad private value behind it, and after one before it.
func TestTheFirstOfBothKindsOfTamperingIsTold(t *testing.T) {
	for value, entry := range map[int]int{5: 20, 20: 5} {
		h := grown(t, 30)
		h.opened[value].Value = "valve"
		h.leaves[entry] = bytes.Replace(h.leaves[entry], []byte(`"usr_x"`), []byte(`"usr_y"`), 1)
		if r := h.judge(t, h.pack(t, true)); r.Verdict != Tampered || r.Bad != 5 {
			t.Errorf("a bad value at %d, a bad entry at %d: %+v", value, entry, r)
		}
	}
}

// Private values are there for all chunks or for none: those of a part cannot be left out.
func TestPrivateValuesOfAChunkAreNotLeftOut(t *testing.T) {
	h := grown(t, chunkSize+10)
	whole := h.pack(t, true)
	if r := h.judge(t, whole); r.Verdict != Good || r.Private != chunkSize+10 {
		t.Fatalf("untouched: %+v", r)
	}
	for n := range 2 {
		bad := bytes.Replace(whole, fmt.Appendf(nil, "chunk/%012d/private", n), fmt.Appendf(nil, "chunk/%012d/privatf", n), 1)
		if r := h.judge(t, bad); r.Verdict == Good {
			t.Errorf("without those of chunk %d: %+v", n, r)
		}
	}
}

// Two changes of one field open in either order, and each by its own value alone.
func TestOneFieldTwiceIsOpenedByBothItsValues(t *testing.T) {
	e := Event{ID: ident.Entry{9}, Action: DeviceUpdated, Target: Target{Kind: "device"}, Outcome: OK, Changes: []Change{Set("note", "", "a"), Set("note", "", "b")}}
	out, err := Append(Head{}, Context{Tenant: ident.Tenant{7}, Actor: "x", ActorKind: "human"}, []Event{e}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a, b := Opened{Field: "note", New: true, Value: "a"}, Opened{Field: "note", New: true, Value: "b"}
	for _, c := range []struct {
		values []Opened
		good   bool
	}{{[]Opened{a, b}, true}, {[]Opened{b, a}, true}, {[]Opened{a, a}, false}, {[]Opened{a}, false}, {[]Opened{a, b, b}, false}} {
		if wrong := CheckPrivate(out.Entries[0].Leaf, c.values); (wrong == "") != c.good {
			t.Errorf("%v: %q", c.values, wrong)
		}
	}
}

// A few bytes of a sparse file stand for as many as one likes.
func TestASparseBundleIsNotUnfolded(t *testing.T) {
	h := grown(t, 3)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, file := range []struct {
		name string
		data []byte
		pax  map[string]string
	}{
		{"checkpoint/00000000000000000003", h.points[0].Note, nil},
		{"chunk/000000000000/entries", []byte("0\n"), map[string]string{"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "200000000", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,2"}},
	} {
		// The writer knows no sparse files: their records are written as some other's, of the same length.
		records := map[string]string{}
		for k, v := range file.pax {
			records[strings.Replace(k, "GNU.sparse.", "XYZ.sparse.", 1)] = v
		}
		if err := w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o444, Size: int64(len(file.data)), Format: tar.FormatPAX, PAXRecords: records}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(file.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bundle := bytes.ReplaceAll(b.Bytes(), []byte("XYZ.sparse."), []byte("GNU.sparse."))
	if r := h.judge(t, bundle); r.Verdict != Incomplete || !strings.Contains(r.Reason, "no part of one") {
		t.Errorf("%+v", r)
	}
}

// What Append keeps privately is what a bundle's reader asks for, in the same order, whatever the fields are.
func TestWhatIsKeptPrivatelyOpensEveryCommitment(t *testing.T) {
	e := Event{ID: ident.Entry{9}, Action: DeviceUpdated, Target: Target{Kind: "device"}, Outcome: OK, Changes: []Change{
		Set("name", "old", "new\x00\u2028\"\xff"), Set("state", "active", "paused"), Set("password", "a", "b"), Set("note", "", "x"), Set("tag", "y", ""), Set("login", "", "z"),
	}, Address: Personal{Value: "192.0.2.7"}, Agent: Personal{Value: "curl"}}
	n := byte(0)
	e, err := Complete(e, func(b []byte) { n++; b[0] = n }, func(s string) ([]byte, error) { return []byte(s), nil }, func(string, string) string { return "digest" })
	if err != nil {
		t.Fatal(err)
	}
	out, err := Append(Head{}, Context{Tenant: ident.Tenant{7}, Actor: "x", ActorKind: "human"}, []Event{e}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var values []Opened
	for _, p := range out.Entries[0].Private {
		o := Opened{Field: p.Field, New: p.New, Nonce: p.Nonce, Value: string(p.Sealed)}
		back, ok := parseOpened(o.line())
		if !ok || back != o {
			t.Errorf("%+v is read back as %+v, %v", o, back, ok)
		}
		values = append(values, back)
	}
	if wrong := CheckPrivate(out.Entries[0].Leaf, values); wrong != "" || len(values) != 6 {
		t.Errorf("%d values: the entry %s", len(values), wrong)
	}
}
