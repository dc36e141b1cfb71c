package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/ringfence/ringfence/core/secret"
)

type setupCmd struct {
	machine
	Link   string `arg:"" help:"The link that the server printed at its first start."`
	Email  string `help:"Your sign-in address." required:"" placeholder:"ADDRESS"`
	Name   string `help:"Your name." required:"" placeholder:"NAME"`
	Tenant string `help:"Name of a first tenant, which you own." placeholder:"NAME"`
	CAFile string `help:"File with the certificate authority that vouches for the server, if the system does not know it." type:"path" placeholder:"FILE"`
}

// Run does what the setup page does, in a terminal. The password is asked for, or is the first line of standard input.
func (s setupCmd) Run(ctx context.Context, env environment) error {
	link, err := url.Parse(s.Link)
	if err != nil || link.Host == "" || link.Query().Get("token") == "" {
		return fmt.Errorf("%w: want the whole link, https://HOST/setup?token=…", errConfig)
	}
	password, err := askPassword(env)
	if err != nil {
		return err
	}
	body := map[string]any{"token": link.Query().Get("token"), "email": s.Email, "name": s.Name, "password": password.Reveal()}
	if s.Tenant != "" {
		body["tenant"] = map[string]any{"name": s.Tenant}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	server := remote{Server: link.Scheme + "://" + link.Host, CAFile: s.CAFile}
	answer, err := server.ask(ctx, env, http.MethodPost, "/v1/auth/setup", secret.Text{}, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	var done struct {
		PrincipalID string `json:"principal_id"`
		Tenant      struct{ ID string }
	}
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(&done); err != nil {
		return fmt.Errorf("it is set up, but the server's answer is not readable: %w", err)
	}
	fmt.Fprintf(env.stderr, "%s administers the platform now. Sign in with: POST %s/v1/auth/login\n", s.Email, server.Server)
	text, document := "", map[string]string{"principal_id": done.PrincipalID}
	if done.Tenant.ID != "" {
		text, document["tenant_id"] = done.Tenant.ID+"\n", done.Tenant.ID
	}
	return s.say(env, text, document)
}

// askPassword reads a password: twice and unseen from a terminal, else the first line.
func askPassword(env environment) (secret.Text, error) {
	if f, ok := env.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) { //nolint:gosec // file descriptors are small
		var entered [2]string
		for i, prompt := range []string{"Password, at least 15 characters: ", "The same again: "} {
			fmt.Fprint(env.stderr, prompt)
			raw, err := term.ReadPassword(int(f.Fd())) //nolint:gosec // as above
			fmt.Fprintln(env.stderr)
			if err != nil {
				return secret.Text{}, err
			}
			entered[i] = string(raw)
		}
		if entered[0] != entered[1] {
			return secret.Text{}, fmt.Errorf("%w: these were two passwords; try again", errConfig)
		}
		return secret.New(entered[0]), nil
	}
	line, err := bufio.NewReader(io.LimitReader(env.stdin, maxToken)).ReadString('\n')
	if err != nil && line == "" {
		return secret.Text{}, fmt.Errorf("%w: want the password as the first line of standard input", errConfig)
	}
	return secret.New(strings.TrimRight(line, "\r\n")), nil
}
