package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// One event id runs through answer, log, outcome and reading; and the key that brought it shows that it is used.
func TestAnEventsIdRunsThroughAnswerLogOutcomeAndReading(t *testing.T) {
	log := &output{}
	s, setup := servedTo(t, log, "log_level=info")
	s, _, ten := begun(t, s, setup)
	at := "/v1/tenants/" + ten.id
	device := s.newDevice(t, ten, "70b3d57ed0000777", ten.site, ten.decoder)
	key := s.door(t, ten, "gateway", ten.root)
	event := s.post(key, "/v1/ingest/plain", obj{"device": "70b3d57ed0000777", "payload": "CL4u"}).str("event_id")
	s.becomes(t, ten, event, "processed")
	for _, list := range []string{"/readings", "/outcomes"} {
		if r := s.get(ten.token, at+list+"?device_id="+device); r.status != 200 || strings.Count(r.text, event) != 1 {
			t.Errorf("%s: %s", list, r.text)
		}
	}
	var named int
	for line := range strings.Lines(log.text()) {
		var said struct {
			Msg, Operation string
			EventID        string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if said.EventID == event && said.Msg == "request" {
			named++
		} else if said.EventID != "" {
			t.Errorf("an event of another: %s", line)
		}
	}
	if named != 1 {
		t.Errorf("the log names the event %d times, want once", named)
	}
	if sources := s.get(ten.token, at+"/sources"); !strings.Contains(s.get(ten.token, at+"/sources/"+s.sourceNamed(t, sources, "gateway")+"/keys").text, `"last_used_at":"2`) {
		t.Error("a key that was used does not say so")
	}
}

// sourceNamed is the id of a source in a list.
func (s *story) sourceNamed(t *testing.T, list reply, name string) string {
	t.Helper()
	var page struct {
		Items []struct{ ID, Name string }
	}
	if err := json.Unmarshal([]byte(list.text), &page); err != nil {
		t.Fatal(err)
	}
	for _, i := range page.Items {
		if i.Name == name {
			return i.ID
		}
	}
	t.Fatalf("no %s in %s", name, list.text)
	return ""
}

// A refusal's entry says why, and by which revision of the policy.
func TestARefusalsEntrySaysWhyAndByWhichPolicy(t *testing.T) {
	s, _, ten := world1(t)
	at := "/v1/tenants/" + ten.id
	_, token := s.joins(t, ten, "vera@acme.example", "viewer")
	status(t, "a viewer asks for the log", s.get(token, at+"/audit/entries"), 403)
	var page struct {
		Items []struct {
			Reason   string
			AuthzRev uint64 `json:"authz_rev"`
		}
	}
	r := s.get(ten.token, at+"/audit/entries?action=authz_fail")
	if err := json.Unmarshal([]byte(r.text), &page); err != nil || len(page.Items) != 1 {
		t.Fatalf("%s %v", r.text, err)
	}
	if e := page.Items[0]; e.Reason != "no_permission" || e.AuthzRev == 0 {
		t.Errorf("%s", r.text)
	}
}

// With no overlap a new key takes the place of all others at once, however many there are.
func TestAKeyThatIsRotatedAtOnceNeedsNoRoom(t *testing.T) {
	s, _, ten := world1(t)
	old := s.door(t, ten, "gateway", ten.root)
	at := "/v1/tenants/" + ten.id + "/sources/"
	at += s.sourceNamed(t, s.get(ten.token, "/v1/tenants/"+ten.id+"/sources"), "gateway") + "/rotate"
	second := s.post(ten.token, at, obj{"name": "second", "overlap_seconds": 60})
	status(t, "a second", second, 201)
	status(t, "a third beside them", s.post(ten.token, at, obj{"name": "third", "overlap_seconds": 60}), 409)
	third := s.post(ten.token, at, obj{"name": "third", "overlap_seconds": 0})
	status(t, "a third in their place", third, 201)
	var got []int
	for _, key := range []string{old, second.str("secret"), third.str("secret")} {
		got = append(got, s.post(key, "/v1/ingest/plain", obj{"device": "70b3d57ed0000777", "payload": "CL4u"}).status)
	}
	if want := []int{401, 401, 202}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
