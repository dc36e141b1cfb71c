package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// deadServer has five letters in pages of two, each of a fate of its own. The real one is asked in
// cmd/internal/node.TestDeadLettersAreListedAndReplayedByTheOperator.
func deadServer(t *testing.T, broken bool) string {
	t.Helper()
	slow := 2 // how often the first is asked for too fast
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem := func(status int, code string) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"code":%q,"detail":"It is %s."}`, code, code)
		}
		switch path := strings.TrimPrefix(r.URL.Path, lettersPath); {
		case r.Header.Get("Authorization") != "Bearer token":
			problem(401, "unauthenticated")
		case path == "":
			from := 0
			_, _ = fmt.Sscan(r.URL.Query().Get("cursor"), &from)
			next, items := "null", []string{}
			for i := from; i < min(from+2, 5); i++ {
				items = append(items, fmt.Sprintf(`{"id":"0-%d","reason":"no_tenant","whole":true}`, i))
			}
			if from+2 < 5 {
				next = fmt.Sprintf(`"%d"`, from+2)
			}
			_, _ = fmt.Fprintf(w, `{"items":[%s],"next_cursor":%s}`, strings.Join(items, ","), next)
		case path == "/0-1/replay" && slow > 0:
			slow--
			w.Header().Set("Retry-After", "1")
			problem(429, "rate_limited")
		case path == "/0-4/replay" && heard(r) == `{"heir_tenant_id":"ten_x"}`:
			w.WriteHeader(202)
			_, _ = fmt.Fprint(w, `{"event_id":"upl_heir"}`)
		case heard(r) != "":
			problem(409, "letter_not_heirs")
		case path == "/0-2/replay":
			problem(409, "letter_cut")
		case path == "/0-3/replay" && broken:
			problem(503, "bus_away")
		default:
			w.WriteHeader(202)
			_, _ = fmt.Fprintf(w, `{"event_id":"upl_%s"}`, strings.Split(path, "/")[1])
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// heard is what a request says, which can be read once.
func heard(r *http.Request) string {
	raw, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(raw))
	return string(raw)
}

func TestEachReplaySaysWhatBecameOfItAndNoneIsPassedOver(t *testing.T) {
	vars := map[string]string{tokenVariable: "token"}
	ids := func(v any) string {
		var out []string
		list, _ := v.([]any)
		for _, one := range list {
			o, _ := one.(map[string]any)
			out = append(out, fmt.Sprintf("%v%v%v", o["id"], o["code"], o["event_id"]))
		}
		return strings.Join(out, " ")
	}
	at := deadServer(t, false)
	for _, c := range []struct {
		most, want string
	}{{"0", ""}, {"3", "0-0 0-1 0-2"}, {"100", "0-0 0-1 0-2 0-3 0-4"}} {
		v := document(t, exitDone, vars, "", "dead-letters", "list", "--server", at, "--most", c.most)
		if got := strings.ReplaceAll(ids(v["letters"]), "<nil><nil>", ""); got != c.want {
			t.Errorf("at most %s: %q", c.most, got)
		}
	}
	v := document(t, exitNo, vars, "", "dead-letters", "replay", "--reason", "no_tenant", "--server", at)
	if done, not := ids(v["replayed"]), ids(v["refused"]); done != "0-0<nil>upl_0-0 0-1<nil>upl_0-1 0-3<nil>upl_0-3 0-4<nil>upl_0-4" || not != "0-2letter_cut<nil>" {
		t.Errorf("replayed %q, refused %q", done, not)
	}
	v = document(t, exitFail, vars, "", "dead-letters", "replay", "--reason", "no_tenant", "--server", deadServer(t, true))
	if done, not := ids(v["replayed"]), ids(v["refused"]); done != "0-0<nil>upl_0-0 0-1<nil>upl_0-1" || not != "0-2letter_cut<nil>" {
		t.Errorf("until the server went away: replayed %q, refused %q", done, not)
	}
	v = document(t, exitDone, vars, "", "dead-letters", "replay", "0-0", "--server", at)
	if done := ids(v["replayed"]); done != "0-0<nil>upl_0-0" {
		t.Errorf("%q", done)
	}
	v = document(t, exitNo, vars, "", "dead-letters", "replay", "0-3", "0-4", "--heir", "ten_x", "--server", at)
	if done, not := ids(v["replayed"]), ids(v["refused"]); done != "0-4<nil>upl_heir" || not != "0-3letter_not_heirs<nil>" {
		t.Errorf("with an heir: replayed %q, refused %q", done, not)
	}
	for what, c := range map[string]struct {
		code int
		says string
		args []string
	}{
		"neither ids nor reason": {exitUsage, "which letters", []string{"replay", "--server", at}},
		"both":                   {exitUsage, "which letters", []string{"replay", "0-0", "--reason", "x", "--server", at}},
		"less than none":         {exitUsage, "most", []string{"list", "--most=-1", "--server", at}},
		"a server that is away":  {exitFail, "refused", []string{"replay", "0-0", "--server", "http://127.0.0.1:1"}},
		"in clear":               {exitUsage, "https", []string{"list", "--server", "http://iot.example.com"}},
	} {
		if code, _, errs := told(t, vars, "", append([]string{"dead-letters"}, c.args...)...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d %s", what, code, errs)
		}
	}
	if code, _, _ := told(t, map[string]string{tokenVariable: "other"}, "", "dead-letters", "replay", "0-0", "--server", at); code != exitNo {
		t.Errorf("nobody we know: exit %d", code)
	}
}
