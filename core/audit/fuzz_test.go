package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func FuzzOpenCheckpoint(f *testing.F) {
	h := grown(f, 5)
	c := Checkpoint{Origin: h.policy.Origin, Size: 5, Root: Hash{1, 2, 3}}
	good, err := c.Sign(h.signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(c.String()))
	f.Add([]byte("a\n05\n" + strings.Repeat("A", 43) + "=\n"))
	f.Add([]byte("a\n18446744073709551615\n" + strings.Repeat("A", 43) + "=\nextension\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := OpenCheckpoint(b, h.policy.Verifier); err == nil && got != c {
			t.Fatalf("%q was never signed, and opens to %v", b, got)
		}
		// What stands under the signature is read in its one spelling.
		got, err := parseCheckpoint(string(b))
		if err == nil && !strings.HasPrefix(string(b), got.String()) {
			t.Fatalf("%q became %q", b, got)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add("origin x/audit/tnt_1\nlog PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
	f.Add("# nothing\norigin a\norigin b\n")
	f.Add("log x+1+y\n")
	f.Add("origin a#b\nlog")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePolicy(s)
		if err == nil && (p.Verifier == nil || p.Origin == "" || strings.ContainsAny(p.Origin, " \n#") || !strings.Contains(s, p.Origin)) {
			t.Fatalf("%q became %+v", s, p)
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	h := grown(f, 2)
	f.Add(h.leaves[1])
	f.Add(h.leaves[1][:len(h.leaves[1])/2])
	f.Add([]byte(`{"v":1,"seq":-1}`))
	f.Add([]byte(`{"v":1,"seq":1,"ts":"2026-11-24T10:00:00Z","id":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.Leaf, b) || len(e.Leaf) > MaxLeaf || e.Seq > 1<<63 || e.ID.IsZero() {
			t.Fatalf("%q became %+v", b, e)
		}
		if at := e.At.Format(timeFormat); !bytes.Contains(b, []byte(at)) {
			t.Fatalf("%q is of %s", b, at)
		}
	})
}

// A private value has one spelling.
func FuzzParseOpened(f *testing.F) {
	f.Add(Opened{Seq: 7, Field: "name", New: true, Nonce: [16]byte{1, 2}, Value: "Ana's \"pump\"\n"}.line())
	f.Add([]byte(`{"field":"name","new":true,"nonce":"00","seq":01,"value":"x","other":1}`))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, ok := parseOpened(b); ok && !bytes.Equal(o.line(), b) {
			t.Fatalf("%q became %+v", b, o)
		}
	})
}

// What the verifier scans is JSON, and says what a JSON parser reads.
func FuzzScan(f *testing.F) {
	h := grown(f, 2)
	f.Add(h.leaves[1])
	f.Add(h.leaves[1][:len(h.leaves[1])/2])
	f.Add([]byte(`{"actor":{"seq":9,"x":["}",{}]},"seq":1,"tenant":"a\"b","ts":"t","v":1}`))
	f.Add([]byte(`{"action":"\u001f\n\"","changes":[{"field":"a"},[1,-2,0]],"seq":-1,"ts":"\u00e9"}`))
	f.Add([]byte(`{"seq":1,"seq":2}`))
	f.Add([]byte(`{"seq":01,"tenant":a,"ts":"","v":"1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var scanned judgedBy
		if !scanned.scan(b) {
			return
		}
		var parsed judgedBy
		if err := json.Unmarshal(b, &parsed); err != nil {
			t.Fatalf("%q is scanned as %+v: %v", b, scanned, err)
		}
		same := (scanned.Seq == nil) == (parsed.Seq == nil) && (scanned.Seq == nil || *scanned.Seq == *parsed.Seq)
		if scanned.Seq, parsed.Seq = nil, nil; !same || scanned != parsed {
			t.Fatalf("%q is scanned as %+v, parsed as %+v", b, scanned, parsed)
		}
	})
}

func TestScanRefusesWhatIsNoCanonicalLeaf(t *testing.T) {
	for _, leaf := range []string{
		"", "{", "{}x", "[]", `{"a"}`, `{"a":}`, `{"a":1`, `{"a":1}x`, `{"a":1,}`, `{a:1}`, `{"b":1,"a":2}`, `{"a":1,"a":1}`, `{"a":1;"b":2}`,
		`{"action":x,"seq":0}`, `{"actor":{"id":[}}`, `{"actor":[1 2]}`, `{"actor":[]}`, `{"seq":0,"v":1,"ſeq":9}`, `{"action":"\x1f"}`, `{"action":"\u1234"}`, `{"action":"\x"}`, "{\"action\":\"\xff\"}",
		`{"changes":[[[[[[[[[1]]]]]]]]]}`, `{"seq":-0}`, `{"seq":-}`, `{"other":1}`,
		`{"seq":01}`, `{"seq":+1}`, `{"seq":1e3}`, `{"seq":"1"}`, `{"seq":99999999999999999999}`, `{"tenant":x}`, `{"tenant":"x}`, `{"tenant":"\u0061"}`, `{"ts":1}`, `{"v":null}`, `{"":1}`,
	} {
		var j judgedBy
		if j.scan([]byte(leaf)) {
			t.Errorf("%s is read as %+v", leaf, j)
		}
	}
}
