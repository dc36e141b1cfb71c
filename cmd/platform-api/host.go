package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ringfence/ringfence/app/disclose"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/cmd/internal/node"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// What only the host may do, beside whatever processes run: who reads the keys and the database's password holds it.

// machine is a command that programs may ask too.
type machine struct {
	JSON bool `name:"json" help:"One JSON document, for machines."`
}

// say prints what a command found: a text for people, or a document.
func (m machine) say(text string, document any) (err error) {
	if m.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetEscapeHTML(false) // links stay links
		return e.Encode(document)
	}
	_, err = io.WriteString(os.Stdout, text)
	return err
}

// link prints one that opens a page of the API's.
func (m machine) link(n *node.Node, at string) error {
	whole := strings.TrimSuffix(n.Config.Str("public_url"), "/") + at
	return m.say(whole+"\n", map[string]string{"link": whole})
}

// asked opens a node for a question about people.
func asked(ctx context.Context, open node.Opener, ask func(*node.Node, *signin.SignIn) error) error {
	n, closed, err := open(ctx)
	if err != nil {
		return err
	}
	defer closed()
	who, err := people(n)
	if err != nil {
		return err
	}
	return ask(n, who)
}

// setupCmd prints the setup link.
type setupCmd struct{ machine }

// Run prints it, or says that there is an administrator.
func (k *setupCmd) Run(ctx context.Context, open node.Opener) error {
	return asked(ctx, open, func(n *node.Node, who *signin.SignIn) error {
		token, err := who.SetupLink(ctx)
		if err == nil && token.IsZero() {
			err = errors.New("the platform has an administrator, who invites others; if nobody can sign in any more: platform-api reset ADDRESS")
		}
		if err != nil {
			return err
		}
		return k.link(n, "/setup?token="+token.Reveal())
	})
}

// resetCmd prints a reset link.
type resetCmd struct {
	machine
	Email string `arg:"" help:"The person's sign-in address."`
}

// Run prints it, if somebody signs in with the address.
func (k *resetCmd) Run(ctx context.Context, open node.Opener) error {
	return asked(ctx, open, func(n *node.Node, who *signin.SignIn) error {
		token, err := who.HostReset(ctx, k.Email)
		if fault.Is(err, fault.NotFound) {
			err = errors.New("nobody signs in with this address")
		}
		if err != nil {
			return err
		}
		return k.link(n, "/reset?token="+token.Reveal())
	})
}

// keyCmd prints a policy file.
type keyCmd struct {
	machine
	Tenant string `arg:"" help:"Id of the tenant; platform for the platform's own log." default:"platform"`
}

// Run prints it. The node was opened with its keys, so they are those of its database.
func (k *keyCmd) Run(ctx context.Context, open node.Opener) error {
	t := ident.Platform
	if k.Tenant != "platform" {
		var err error
		if t, err = ident.ParseTenant(k.Tenant); err != nil {
			return fmt.Errorf("%w: want the id of a tenant, ten_ and 26 characters", settings.Err)
		}
	}
	n, closed, err := open(ctx)
	if err != nil {
		return err
	}
	defer closed()
	policy := disclose.New(n.Enter, n.Store, n.Keys).Policy(t)
	return k.say(policy, map[string]string{"tenant_id": t.String(), "policy": policy})
}
