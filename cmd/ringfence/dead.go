package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ringfence/ringfence/core/secret"
)

// deadListCmd lists dead letters of a scaled-out deployment, asked through its API.
type deadListCmd struct {
	remote
	machine
	Reason string `help:"Of this reason alone." placeholder:"WORD"`
	Most   int    `help:"At most so many." default:"100"`
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
	found, err := d.letters(ctx, env, token, d.Reason, d.Most)
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
		if err := r.answer(ctx, env, http.MethodGet, lettersPath+"?"+q.Encode(), token, &page); err != nil {
			return nil, err
		}
		if found = append(found, page.Items...); page.NextCursor == "" {
			return found, nil
		}
		cursor = page.NextCursor
	}
	return found[:most], nil
}

func (r remote) answer(ctx context.Context, env environment, method, path string, token secret.Text, into any) error {
	body, err := r.ask(ctx, env, method, path, token, nil)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	return json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(into)
}

// deadReplayCmd puts dead letters back on their way, through the API.
type deadReplayCmd struct {
	remote
	machine
	ID     []string `arg:"" optional:"" help:"Of the letters." placeholder:"ID"`
	Reason string   `help:"All of this reason instead." placeholder:"WORD"`
	Most   int      `help:"At most so many." default:"1000"`
}

// Run replays each, and says what became of it. The exit code is 1 if any was refused.
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
		found, err := d.letters(ctx, env, token, d.Reason, d.Most)
		if err != nil {
			return err
		}
		for _, l := range found {
			ids = append(ids, l.ID)
		}
	}
	type replayed struct {
		ID      string `json:"id"`
		EventID string `json:"event_id,omitempty"`
	}
	done, refused := []replayed{}, false
	var text strings.Builder
	for _, id := range ids {
		one := replayed{ID: id}
		err := d.answer(ctx, env, http.MethodPost, lettersPath+"/"+url.PathEscape(id)+"/replay", token, &one)
		one.ID = id
		if refused = refused || err != nil; err != nil {
			_, _ = fmt.Fprintf(env.stderr, "ringfence: %s was not replayed\n", id)
		} else {
			_, _ = fmt.Fprintf(&text, "%s became %s\n", id, one.EventID)
		}
		done = append(done, one)
	}
	if err := d.say(env, text.String(), map[string]any{"replayed": done}); err != nil {
		return err
	}
	if refused {
		return errNo
	}
	return nil
}
