package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
)

// remote is a server that a command asks through its public API, as any other client does.
type remote struct {
	Server    string `help:"The server's address." default:"http://127.0.0.1:8080" placeholder:"URL"`
	TokenFile string `help:"File, readable by you alone, with an access or personal access token; without it, RINGFENCE_TOKEN." type:"path" placeholder:"FILE"`
	CAFile    string `help:"File with the certificate authority that vouches for the server, if the system does not know it." type:"path" placeholder:"FILE"`
}

// tokenVariable holds the token that a client command asks with.
const tokenVariable = "RINGFENCE_TOKEN"

// maxToken is more than any token takes, maxAnswer more than any answer but a bundle.
const (
	maxToken  = 4 << 10
	maxAnswer = 1 << 20
)

func (r remote) token(env environment) (secret.Text, error) {
	if r.TokenFile == "" {
		if t, ok := env.lookup(tokenVariable); ok && t != "" {
			return secret.New(strings.TrimSpace(t)), nil
		}
		return secret.Text{}, fmt.Errorf("%w: who is asking? Put a token into RINGFENCE_TOKEN or a file named by --token-file", errConfig)
	}
	return secretIn(r.TokenFile)
}

// secretIn reads a secret from a file that its owner alone can read.
func secretIn(file string) (secret.Text, error) { return secretOf(file, 0o077, "go-rwx") }

// secretOf is secretIn, less what may not be done with the file.
func secretOf(file string, forbidden fs.FileMode, remedy string) (secret.Text, error) {
	f, err := os.Open(file) //nolint:gosec // named by the caller
	if err != nil {
		return secret.Text{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return secret.Text{}, err
	}
	if info.Mode().Perm()&forbidden != 0 {
		return secret.Text{}, fmt.Errorf("%w: others may read %s; run chmod %s %s", errConfig, file, remedy, file)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxToken))
	return secret.New(strings.TrimSpace(string(raw))), err
}

// client never sends a token in clear over a network, nor to where a server sends it on.
func (r remote) client() (*http.Client, error) {
	u, err := url.Parse(r.Server)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%w: --server wants https://HOST", errConfig)
	}
	if u.Scheme == "http" && !settings.Loopback(u.Hostname()) {
		return nil, fmt.Errorf("%w: --server %s would carry the token in clear; use https", errConfig, r.Server)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ResponseHeaderTimeout: time.Minute}
	if r.CAFile != "" {
		pem, err := os.ReadFile(r.CAFile)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no certificate", errConfig, r.CAFile)
		}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// ask answers a good answer's body, which the caller closes.
func (r remote) ask(ctx context.Context, env environment, method, path string, token secret.Text, body io.Reader) (io.ReadCloser, error) {
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.Server, "/")+path, body)
	if err != nil {
		return nil, err
	}
	if !token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res.Body, nil
	}
	defer func() { _ = res.Body.Close() }()
	var p struct {
		Code, Detail string
		Errors       []struct {
			Pointer, Detail string
		} `json:"errors"`
	}
	_ = json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&p) // whatever it is, the status is told
	fmt.Fprintf(env.stderr, "ringfence: the server answered %s: %s\n", res.Status, p.Detail)
	for _, e := range p.Errors {
		fmt.Fprintf(env.stderr, "  %s: %s\n", e.Pointer, e.Detail)
	}
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return nil, &refusal{status: res.StatusCode, code: p.Code, detail: p.Detail, after: time.Duration(seconds) * time.Second}
}

// refusal is an answer that is none; what it says was told already.
type refusal struct {
	status       int
	code, detail string
	after        time.Duration // when to ask again, if the server says so
}

// Error is what remains to be said.
func (r *refusal) Error() string { return "could not find out; try again later" }

// Is makes it the answer no, unless asking again may be answered otherwise.
func (r *refusal) Is(err error) bool {
	return err == errNo && r.status < http.StatusInternalServerError && r.status != http.StatusTooManyRequests
}

// logOf is the path of a tenant's audit log, or of the platform's own.
func logOf(tenant string) (string, error) {
	if tenant == "platform" {
		return "/v1/platform/audit", nil
	}
	t, err := ident.ParseTenant(tenant)
	if err != nil {
		return "", fmt.Errorf("%w: want the id of a tenant, ten_ and 26 characters, or platform", errConfig)
	}
	return "/v1/tenants/" + t.String() + "/audit", nil
}

type exportCmd struct {
	remote
	Tenant  string `arg:"" help:"Id of the tenant; platform for the platform's own log."`
	Private bool   `help:"With the private values that the entries hold commitments to, such as names and addresses."`
	Format  string `help:"bundle, which audit verify checks, or ndjson: the entries alone, a line each." enum:"bundle,ndjson" default:"bundle"`
	Output  string `short:"o" help:"File to write; - for standard output." default:"audit.tar" type:"path"`
}

// Run writes an export, whole or not at all.
func (e exportCmd) Run(ctx context.Context, env environment) error {
	path, err := logOf(e.Tenant)
	if err != nil {
		return err
	}
	token, err := e.token(env)
	if err != nil {
		return err
	}
	switch {
	case e.Format == "ndjson" && e.Private:
		return fmt.Errorf("%w: private values come in a bundle alone", errConfig)
	case e.Format == "ndjson":
		path += "/export"
	case e.Private:
		path += "/bundle?private=true"
	default:
		path += "/bundle"
	}
	bundle, err := e.ask(ctx, env, http.MethodGet, path, token, nil)
	if err != nil {
		return err
	}
	defer func() { _ = bundle.Close() }()
	if e.Output == "-" {
		_, err := io.Copy(env.stdout, bundle)
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(e.Output), ".audit-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, bundle)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), e.Output)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s was not written", e.Output), err, os.Remove(tmp.Name()))
	}
	fmt.Fprintf(env.stderr, "%s is written", e.Output)
	if e.Format == "bundle" {
		fmt.Fprintf(env.stderr, "; verify it with: ringfence audit verify %s --policy policy.txt", e.Output)
	}
	fmt.Fprintln(env.stderr)
	return nil
}

type proveCmd struct {
	remote
	machine
	Tenant string `arg:"" help:"Id of the tenant; platform for the platform's own log."`
	Seq    uint64 `arg:"" help:"Number of the entry; the first is 0."`
}

// Run prints a receipt that carries its entry.
func (p proveCmd) Run(ctx context.Context, env environment) error {
	path, err := logOf(p.Tenant)
	if err != nil {
		return err
	}
	token, err := p.token(env)
	if err != nil {
		return err
	}
	answer, err := p.ask(ctx, env, http.MethodGet, fmt.Sprintf("%s/entries/%d/proof", path, p.Seq), token, nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	var body struct{ Proof, Leaf string }
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(&body); err != nil {
		return fmt.Errorf("the server's answer is not readable: %w", err)
	}
	proof, err := audit.ParseProof(body.Proof)
	if err != nil || proof.Index != p.Seq {
		return errors.New("the server's answer is no proof of this entry")
	}
	proof.Extra = []byte(body.Leaf)
	return p.say(env, proof.String(), map[string]string{"proof": proof.String()})
}

type hashCmd struct {
	remote
	machine
	Key string `help:"Of an older digest: the word between its colons." placeholder:"NAME"`
}

// Run prints what entries hold of a name that is read from standard input: command lines are seen by others.
func (h hashCmd) Run(ctx context.Context, env environment) error {
	token, err := h.token(env)
	if err != nil {
		return err
	}
	value, err := io.ReadAll(io.LimitReader(env.stdin, maxToken))
	if err != nil {
		return err
	}
	asked, err := json.Marshal(map[string]string{"login": strings.TrimRight(string(value), "\r\n"), "key": h.Key})
	if err != nil {
		return err
	}
	answer, err := h.ask(ctx, env, http.MethodPost, "/v1/platform/audit/digest", token, bytes.NewReader(asked))
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	var body struct{ Digest string }
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(&body); err != nil {
		return fmt.Errorf("the server's answer is not readable: %w", err)
	}
	return h.say(env, body.Digest+"\n", map[string]string{"digest": body.Digest})
}
