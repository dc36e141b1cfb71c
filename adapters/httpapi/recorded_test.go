package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/device"
)

// told is what the log of the first tenant says of a target, newest first: each entry as "action field:old>new …".
func (h *house) told(target string) []string {
	h.t.Helper()
	var page struct {
		Items []struct {
			Action  string
			Changes []struct{ Field, Old, New string }
		}
	}
	if err := json.Unmarshal(h.as(h.owner[0]).call("GET", h.at(0, "/audit/entries?target="+target), "").ok(200).Body.Bytes(), &page); err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, e := range page.Items {
		if e.Action == "sensitive_read" {
			continue
		}
		text := e.Action
		for _, c := range e.Changes {
			text += fmt.Sprintf(" %s:%.6s>%.6s", c.Field, c.Old, c.New)
		}
		out = append(out, text)
	}
	return out
}

// said holds the newest entry against what it must begin with.
func (h *house) said(target, want string) {
	h.t.Helper()
	if got := h.told(target); len(got) == 0 || got[0] != want {
		h.t.Errorf("%q, want %q", got, want)
	}
}

// names holds a problem's first pointer, and a piece of what it says, against what is wanted.
func (s reply) names(status int, code, pointer, piece string) {
	s.h.t.Helper()
	p := s.h.wants(s.ResponseRecorder, status, code)
	if pointer != "" && (len(p.Errors) == 0 || p.Errors[0].Pointer != pointer) || !strings.Contains(s.Body.String(), piece) {
		s.h.t.Errorf("want %q and %q in %s", pointer, piece, s.Body)
	}
}

const one1 = `If-Match: "1"`

func TestAnEntryTellsAllThatWasMadeOrIsGone(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	a.call("POST", h.at(0, "/imports"), `{"csv":"name,serial\none,S1\n,S2\nthree,S3\n"}`).ok(201)
	imported := h.everything("/devices")
	for _, part := range strings.Split(imported, `"id":"`)[1:] {
		h.said(part[:30], "device_created name:>sha256 node:>nod_06 state:>active addresses:>sha256")
	}
	dev := a.call("POST", h.at(0, "/devices"), `{"name":"x","addresses":[{"kind":"serial","value":"1"}],"variables":[{"name":"k","value":"v"}]}`).ok(201).str("id")
	h.said(dev, "device_created name:>sha256 node:>nod_06 state:>active addresses:>sha256 variables:>change")
	a.call("DELETE", h.at(0, "/devices/"+dev), "", one1).ok(204)
	h.said(dev, "device_deleted name:sha256> node:nod_06> state:active> addresses:sha256> variables:>change")

	site := h.node(h.root[0], "site", "s")
	a.call("DELETE", h.at(0, "/nodes/"+site), "", one1).ok(204)
	h.said(site, "node_deleted name:sha256> kind:site> parent:nod_06>")
	dec := a.call("POST", h.at(0, "/decoders"), `{"name":"d"}`).ok(201).str("id")
	v := a.call("POST", h.at(0, "/decoders/"+dec+"/versions"), `{"source":"1"}`).ok(201).str("id")
	a.call("POST", h.at(0, "/decoders/"+dec+"/activate"), fmt.Sprintf(`{"version_id":%q}`, v), `If-Match: "2"`).ok(200)
	a.call("DELETE", h.at(0, "/decoders/"+dec), "", `If-Match: "3"`).ok(204)
	h.said(dec, "decoder_deleted name:sha256> version:ver_06>")

	src := h.at(0, "/sources/"+a.call("POST", h.at(0, "/sources"), `{"name":"s","format":"plain"}`).ok(201).str("id"))
	old := a.call("POST", src+"/keys", `{"name":"k"}`).ok(201)
	made := a.call("POST", src+"/rotate", `{"name":"l","overlap_seconds":60}`).ok(201)
	h.said(src[len(src)-30:], "source_key_rotated key:>key_06 accessor:>"+made.str("accessor")[:6]+" expires_at:>"+made.str("expires_at")[:6]+" name:>sha256 keys:key_06>key_06")
	if got := h.as(h.owner[0]).call("GET", h.at(0, "/audit/entries?action=source_key_rotated"), "").Body.String(); !strings.Contains(got, old.str("id")) {
		t.Errorf("%s", got)
	}
	a.call("DELETE", src, "", one1).ok(204)
	h.said(src[len(src)-30:], "source_deleted name:sha256> node:nod_06> format:plain> state:active> keys:key_06>")
}

func TestAnAcceptedInvitationIsRecordedWithTheMembershipThatItGave(t *testing.T) {
	h := newHouse(t)
	link := h.as(h.owner[0]).call("POST", h.at(0, "/invitations"), `{"email":"cid@example.com","role_id":"`+access.Admin.String()+`","recursive":true}`).ok(201).str("secret")
	got := h.as("").call("POST", "/v1/auth/invitations/accept", fmt.Sprintf(`{"token":%q,"name":"Cid","password":%q}`, link, password)).ok(201)
	h.said(got.str("principal_id"), "member_added membership:>mem_06 role:>rol_06 node:>nod_06 recursive:>true email:>sha256")
	if w := h.as(h.owner[0]).call("GET", h.at(0, "/audit/entries?target="+got.str("principal_id")), ""); !strings.Contains(w.Body.String(), got.str("id")) {
		t.Errorf("not %s: %s", got.str("id"), w.Body)
	}
}

// The largest import is one change, whose entries fit.
func TestEachDeviceOfTheLargestImportHasItsEntry(t *testing.T) {
	h := newHouse(t)
	var csv strings.Builder
	for n := range device.MaxImportRows {
		fmt.Fprintf(&csv, `\n%d,%d`, n, n)
	}
	h.as(h.owner[0]).call("POST", h.at(0, "/imports"), `{"csv":"name,serial`+csv.String()+`"}`).ok(201)
	for _, part := range strings.Split(h.everything("/devices"), `"id":"`)[1:] {
		h.said(part[:30], "device_created name:>sha256 node:>nod_06 state:>active addresses:>sha256")
	}
}
