package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/adapters/auditverify"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
)

// examined is what a deployment's API says to an administrator.
type examined struct {
	doctorCmd
	env environment
}

const (
	askWith  = "Give an administrator's token by --token-file or RINGFENCE_TOKEN, and the API's address by --server."
	maxPages = 1_000 // of 200 items: more than any limit lets there be
)

// fetch answers a good answer, and its headers.
func (x *examined) fetch(ctx context.Context, method, path string, token secret.Text, body io.Reader) (*http.Response, error) {
	client, err := x.client()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(x.Server, "/")+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	req.Header.Set("Content-Type", "application/json")
	return client.Do(req)
}

// str is a text of an object.
func (o obj) str(key string) string {
	s, _ := o[key].(string)
	return s
}

// list answers all items of a list.
func (x *examined) list(ctx context.Context, path string) (all []obj, err error) {
	token, err := x.token(x.env)
	if err != nil {
		return nil, err
	}
	cursor := ""
	for range maxPages {
		res, err := x.fetch(ctx, http.MethodGet, path+"?limit=200"+cursor, token, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Items  []obj   `json:"items"`
			Cursor *string `json:"next_cursor"`
		}
		err = json.NewDecoder(io.LimitReader(res.Body, 16*maxAnswer)).Decode(&page)
		if err = errors.Join(err, res.Body.Close()); res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s was answered %s", path, res.Status)
		} else if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Cursor == nil {
			return all, nil
		}
		cursor = "&cursor=" + url.QueryEscape(*page.Cursor)
	}
	return nil, errors.New("a list without an end")
}

// tenants are those that are looked at.
func (x *examined) tenants(ctx context.Context) ([]string, error) {
	if len(x.Tenant) > 0 {
		return x.Tenant, nil
	}
	token, err := x.token(x.env)
	if err != nil {
		return nil, err
	}
	res, err := x.fetch(ctx, http.MethodGet, "/v1/me", token, nil)
	if err != nil {
		return nil, err
	}
	var me struct {
		TenantIDs []string `json:"tenant_ids"`
	}
	err = json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&me)
	if err = errors.Join(err, res.Body.Close()); err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET /v1/me was answered %s", res.Status)
	}
	if err == nil && len(me.TenantIDs) == 0 {
		err = errors.New("whoever asks is a member of no tenant")
	}
	return me.TenantIDs, err
}

// unseen is a row that could not be looked at.
func unseen(err error) finding {
	return found(yellow, "not looked at: "+reason(err), askWith)
}

// reason tells of an error what is ours to tell: foreign ones by type and number.
func reason(err error) string {
	var op *url.Error
	if errors.As(err, &op) {
		return "the API could not be asked: " + fault.Cause(op.Err)
	}
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), errConfig.Error()+": "), "\n", "; ")
}

// rights lists what persons hold without a group, and roles that hold everything, of all but those who break the glass.
func (x *examined) rights(ctx context.Context) finding {
	tenants, err := x.tenants(ctx)
	if err != nil {
		return unseen(err)
	}
	var bad []string
	for _, t := range tenants {
		at := "/v1/tenants/" + url.PathEscape(t)
		members, err := x.list(ctx, at+"/members")
		roles, err2 := x.list(ctx, at+"/roles")
		held, err3 := x.list(ctx, at+"/memberships")
		if err = errors.Join(err, err2, err3); err != nil {
			return unseen(err)
		}
		human := map[string]bool{}
		for _, m := range members {
			human[m.str("id")] = m.str("kind") == "human"
		}
		names, broad := map[string]string{}, map[string]bool{}
		var admin []any
		for _, r := range roles {
			if names[r.str("id")] = r.str("name"); r["built_in"] == true && r.str("name") == "admin" {
				admin, _ = r["permissions"].([]any)
			}
		}
		for _, r := range roles {
			has, _ := r["permissions"].([]any)
			lacks := slices.ContainsFunc(admin, func(p any) bool { return !slices.Contains(has, p) })
			broad[r.str("id")] = r["built_in"] != true && len(admin) > 0 && !lacks
		}
		for _, m := range held {
			who, role := m.str("principal_id"), m.str("role_id")
			if slices.Contains(x.BreakGlass, who) {
				continue
			}
			if human[who] {
				bad = append(bad, fmt.Sprintf("%s holds %s in %s directly", who, names[role], t))
			}
			if broad[role] {
				bad = append(bad, fmt.Sprintf("role %s (%s) of %s, which holds all that an administrator does, is given to %s%s", names[role], role, t, who, m.str("group_id")))
			}
		}
	}
	if len(bad) > 0 {
		return found(red, some(bad), "Make groups, give the roles to them, and take the direct ones away; name those who break the glass by --break-glass. Divide a role that holds everything by what people do.")
	}
	return found(green, fmt.Sprintf("in %d tenants all persons hold what they do by groups, and no role of their own holds everything", len(tenants)), "")
}

// keys finds keys and tokens that are older than they may be.
func (x *examined) keys(ctx context.Context) finding {
	tenants, err := x.tenants(ctx)
	if err != nil {
		return unseen(err)
	}
	var old []string
	n, since := 0, time.Now().AddDate(0, 0, -x.KeyDays)
	for _, t := range tenants {
		at := "/v1/tenants/" + url.PathEscape(t)
		sources, err := x.list(ctx, at+"/sources")
		if err != nil {
			return unseen(err)
		}
		lists := []string{at + "/tokens"}
		for _, s := range sources {
			lists = append(lists, at+"/sources/"+url.PathEscape(s.str("id"))+"/keys")
		}
		for _, path := range lists {
			all, err := x.list(ctx, path)
			if err != nil {
				return unseen(err)
			}
			for _, key := range all {
				made, err := time.Parse(time.RFC3339, key.str("created_at"))
				if err != nil {
					return unseen(errors.New("a key's age could not be read"))
				}
				if n++; made.Before(since) {
					old = append(old, fmt.Sprintf("%s of %s is of %s", key.str("id"), t, made.Format(time.DateOnly)))
				}
			}
		}
	}
	if len(old) > 0 {
		return found(red, some(old), "Rotate: POST …/sources/{source}/rotate makes a new key and lets the old one live for an overlap. Tokens: make another, revoke this.")
	}
	return found(green, fmt.Sprintf("of %d keys and tokens none is older than %d days; each ends by itself, and this version refuses none for its age before that", n, x.KeyDays), "")
}

// limits looks for what an answer says of its caller's rate.
func (x *examined) limits(ctx context.Context) finding {
	const remedy = "Something in front takes the fields away, or this is another server: ask it directly. The limits are source_rate, ingest_rate and their bursts."
	if x.IngestKeyFile == "" {
		return found(yellow, "not looked at: no ingestion key was given", "Give one by --ingest-key-file: it is asked for its limits with an empty message, which is refused.")
	}
	key, err := secretIn(x.IngestKeyFile)
	if err != nil {
		return unseen(err)
	}
	var policy, left string
	for _, format := range []source.Format{source.ChirpStack, source.TTS, source.Plain} { // a source has one, and the others are refused before anything is counted
		res, err := x.fetch(ctx, http.MethodPost, "/v1/ingest/"+string(format), key, bytes.NewReader(nil))
		if err != nil {
			return unseen(err)
		}
		_ = res.Body.Close()
		policy, left = res.Header.Get("RateLimit-Policy"), res.Header.Get("RateLimit")
		if res.StatusCode == http.StatusUnauthorized {
			return found(yellow, "the ingestion key is refused", "Give one that is not revoked or over.")
		}
		if res.StatusCode != http.StatusForbidden {
			break
		}
	}
	if policy == "" || left == "" {
		return found(red, "an answer at ingestion says nothing of a rate", remedy)
	}
	return found(green, "answers at ingestion say "+policy+", "+left+"; per tenant it is told by no metric, since metrics name nobody", "")
}

// log verifies the first tenant's log against its newest checkpoint.
func (x *examined) log(ctx context.Context) finding {
	if x.Policy == "" {
		return found(yellow, "not looked at: whose log, signed by whom?", "Give the policy of the first tenant's log by --policy, as `ringfence audit key` prints it on the server, or `platform-api audit-key`; keep it elsewhere.")
	}
	tenants, err := x.tenants(ctx)
	if err != nil {
		return unseen(err)
	}
	token, err := x.token(x.env)
	if err != nil {
		return unseen(err)
	}
	path, err := logOf(tenants[0])
	if err != nil {
		return unseen(err)
	}
	res, err := x.fetch(ctx, http.MethodGet, path+"/bundle", token, nil)
	if err != nil {
		return unseen(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return unseen(fmt.Errorf("the log's export was answered %s", res.Status))
	}
	f, err := os.CreateTemp("", "ringfence-doctor-*")
	if err != nil {
		return unseen(err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = io.Copy(f, res.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		return unseen(errors.New("the log's export was cut off"))
	}
	var out, errs bytes.Buffer
	code := auditverify.Main([]string{f.Name(), "--policy", x.Policy}, nil, &out, &errs)
	first, _, _ := strings.Cut(out.String()+errs.String(), "\n")
	switch code {
	case exitDone:
		return found(green, first+"; it keeps everything, and what was signed is checked, not what a roll-back of the whole log would hide (audit verify --since)", "")
	case exitNo:
		return found(red, first, "Somebody changed the log, or the policy is another log's. Keep what there is, and look at who could write to the database: `ringfence audit verify` names the entry.")
	}
	return found(yellow, first, "Look whether --policy is the policy of this tenant's log.")
}
