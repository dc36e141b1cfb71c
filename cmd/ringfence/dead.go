package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/secret"
)

// deadListCmd lists dead letters of a scaled-out deployment, asked through its API.
type deadListCmd struct {
	remote
	machine
	Reason string `help:"Of this reason alone." placeholder:"WORD"`
	Most   uint32 `help:"At most so many." default:"100"`
}

// letter is one as the API tells of it.
type letter struct {
	ID       string  `json:"id"`
	Reason   string  `json:"reason"`
	Via      string  `json:"via"`
	Origin   string  `json:"origin"`
	TenantID *string `json:"tenant_id"`
	Size     int     `json:"size"`
	Whole    bool    `json:"whole"`
	SHA256   string  `json:"sha256"`
	At       string  `json:"at"`
}

const lettersPath = "/v1/platform/dead-letters"

// Run prints a line a letter.
func (d deadListCmd) Run(ctx context.Context, env environment) error {
	token, err := d.token(env)
	if err != nil {
		return err
	}
	found, err := d.letters(ctx, env, token, d.Reason, int(d.Most))
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, l := range found {
		whose, cut := "nobody's", ""
		if l.TenantID != nil {
			whose = *l.TenantID
		}
		if !l.Whole {
			cut = ", cut"
		}
		_, _ = fmt.Fprintf(&text, "%s  %s  %s  %s  %s  %s  %d bytes%s\n", l.ID, l.At, l.Reason, whose, l.Via, l.Origin, l.Size, cut)
	}
	return d.say(env, text.String(), map[string]any{"letters": found})
}

// letters are those of a reason, or all.
func (r remote) letters(ctx context.Context, env environment, token secret.Text, reason string, most int) ([]letter, error) {
	found := []letter{}
	for cursor := ""; len(found) < most; {
		q := url.Values{"limit": {"50"}}
		if reason != "" {
			q.Set("reason", reason)
		}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page struct {
			Items      []letter `json:"items"`
			NextCursor string   `json:"next_cursor"`
		}
		if err := r.answer(ctx, env, http.MethodGet, lettersPath+"?"+q.Encode(), token, "", &page); err != nil {
			return nil, err
		}
		if found = append(found, page.Items...); page.NextCursor == "" {
			return found, nil
		}
		cursor = page.NextCursor
	}
	return found[:most], nil
}

// patience is how often a request is asked again of a server that wants to be asked more slowly, longest how long for each time.
const (
	patience = 10
	longest  = time.Minute
)

// answer asks for one document. Many are asked for in a row, so that a server may be faster asked than it wants to be: then it
// is waited for as long as it says.
func (r remote) answer(ctx context.Context, env environment, method, path string, token secret.Text, sent string, into any) error {
	for tries := 0; ; tries++ {
		var says io.Reader
		if sent != "" {
			says = strings.NewReader(sent)
		}
		body, err := r.ask(ctx, env, method, path, token, says)
		if no := (*refusal)(nil); errors.As(err, &no) && no.status == http.StatusTooManyRequests && tries < patience {
			timer := time.NewTimer(min(max(no.after, time.Second), longest))
			select {
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			case <-timer.C:
			}
			continue
		}
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		return json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(into)
	}
}

// deadReplayCmd puts dead letters back on their way, through the API.
type deadReplayCmd struct {
	remote
	machine
	ID     []string `arg:"" optional:"" help:"Of the letters." placeholder:"ID"`
	Reason string   `help:"All of this reason instead." placeholder:"WORD"`
	Most   uint32   `help:"At most so many." default:"1000"`
	Heir   string   `help:"The tenant whose they are to become, or they are refused: to be named for what came while its application was nobody's, if another tenant had it before." placeholder:"TENANT"`
}

// Run replays each, and says what became of it. The exit code is 1 if any was refused, and 3 if some could not be asked for; then
// it says what was done until there.
func (d deadReplayCmd) Run(ctx context.Context, env environment) error {
	if (len(d.ID) == 0) == (d.Reason == "") {
		return fmt.Errorf("%w: which letters? Name their ids, or a --reason", errConfig)
	}
	token, err := d.token(env)
	if err != nil {
		return err
	}
	ids := d.ID
	if d.Reason != "" {
		found, err := d.letters(ctx, env, token, d.Reason, int(d.Most))
		if err != nil {
			return err
		}
		for _, l := range found {
			ids = append(ids, l.ID)
		}
	}
	var sent []byte
	if d.Heir != "" {
		if sent, err = json.Marshal(map[string]string{"heir_tenant_id": d.Heir}); err != nil {
			return err
		}
	}
	type replayed struct {
		ID      string `json:"id"`
		EventID string `json:"event_id"`
	}
	type refused struct {
		ID     string `json:"id"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	done, not := []replayed{}, []refused{}
	var text strings.Builder
	var failed error
	for _, id := range ids {
		one, no := replayed{}, (*refusal)(nil)
		err := d.answer(ctx, env, http.MethodPost, lettersPath+"/"+url.PathEscape(id)+"/replay", token, string(sent), &one)
		if errors.Is(err, errNo) && errors.As(err, &no) {
			_, _ = fmt.Fprintf(env.stderr, "ringfence: %s was not replayed\n", id)
			not = append(not, refused{id, no.code, no.detail})
			continue
		}
		if failed = err; failed != nil {
			_, _ = fmt.Fprintf(env.stderr, "ringfence: it is not known of %s whether it was replayed, and those behind it were not; replay them again\n", id)
			break
		}
		one.ID = id
		done = append(done, one)
		_, _ = fmt.Fprintf(&text, "%s became %s\n", id, one.EventID)
	}
	if err := d.say(env, text.String(), map[string]any{"replayed": done, "refused": not}); err != nil {
		return err
	}
	if failed == nil && len(not) > 0 {
		return errNo
	}
	return failed
}
