package signin_test

import (
	"context"
	"testing"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/store"
)

// invited makes a tenant with an open invitation for its first owner.
func (w *world) invited(email string) (ident.Tenant, secret.Text) {
	w.t.Helper()
	var id ident.Tenant
	ident.Fresh(w.enter.Mint, &id)
	whole, stored := w.enter.Issue(credential.KindInvite, credential.InviteLife)
	inv := principal.Invitation{Accessor: stored.Accessor, Verifier: stored.Verifier, KID: stored.KID, Email: email, Role: access.Owner, Recursive: true, ExpiresAt: stored.ExpiresAt}
	ident.Fresh(w.enter.Mint, &inv.ID)
	w.change(id, func(ctx context.Context, wr store.Writer) error {
		t, err := w.enter.Birth(ctx, wr, id, "Acme Water", "")
		if err != nil {
			return err
		}
		inv.Node = t.Root
		_, err = wr.Invitations().Put(ctx, inv)
		return err
	})
	return id, whole
}

func (w *world) change(of ident.Tenant, fn func(context.Context, store.Writer) error) {
	w.t.Helper()
	sc := w.enter.System(of, "test", access.Origin{})
	ev, err := w.enter.Event(w.t.Context(), sc, audit.TenantCreated, audit.Target{Kind: "tenant", ID: of.String()})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Change(w.t.Context(), sc, func(ctx context.Context, wr store.Writer) ([]audit.Event, error) {
		return []audit.Event{ev}, fn(ctx, wr)
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestAnInvitationForAnAddressThatIsTakenHashesNothing(t *testing.T) {
	w := newWorld(t)
	_, link := w.invited(name)
	before := w.passwords.hashed.Load()
	somebody := signin.NewPerson{Name: "Mallory", Password: secret.New("a long enough passphrase")}
	last := ""
	for range 30 {
		_, err := w.Accept(t.Context(), link, nil, somebody, at("192.0.2.1"))
		if last = code(err); last != "sign_in_first" && last != "link_throttled" {
			t.Fatal(err)
		}
		if last == "link_throttled" && fault.As(err).RetryAfter <= 0 {
			t.Error("nobody says when to come back")
		}
	}
	if n := w.passwords.hashed.Load() - before; n != 0 {
		t.Errorf("%d passwords were hashed for nothing", n)
	}
	if last != "link_throttled" {
		t.Errorf("thirty tries with one link: %s", last)
	}
}

// Who may invite must not learn for nothing whether an address is somebody's.
func TestWhatWouldBeRefusedAnywayTellsNotWhoseAnAddressIs(t *testing.T) {
	w := newWorld(t)
	_, taken := w.invited(name)
	_, free := w.invited("nobody@else.example")
	for _, in := range []signin.NewPerson{
		{Name: "Mallory", Password: secret.New("short")}, {Name: "a\x00b", Password: secret.New("a long enough passphrase")}, {Password: secret.New("a long enough passphrase")},
	} {
		_, one := w.Accept(t.Context(), taken, nil, in, at("192.0.2.1"))
		_, other := w.Accept(t.Context(), free, nil, in, at("192.0.2.2"))
		if code(one) != code(other) || code(one) == "sign_in_first" || one == nil {
			t.Errorf("%q: an address that is taken: %v, one that is free: %v", in.Name, one, other)
		}
	}
}

func TestALinkCostsFewHashesHoweverOftenItIsTried(t *testing.T) {
	w := newWorld(t)
	link, err := w.HostReset(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	before := w.passwords.hashed.Load()
	errs := all(100, func(int) error {
		return w.Reset(t.Context(), link, secret.New("five other random words"), at("192.0.2.1"))
	})
	if n := won(errs); n != 1 {
		t.Errorf("%d of 100 used one link", n)
	}
	if n := w.passwords.hashed.Load() - before; n > 10 {
		t.Errorf("%d passwords were hashed for one link", n)
	}
}

func TestANewPasswordVoidsTheOpenResetLinks(t *testing.T) {
	w := newWorld(t)
	reset := func() secret.Text {
		t.Helper()
		w.clock.on(time.Second)
		link, err := w.HostReset(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	first := reset()
	second := reset()
	if err := w.Reset(t.Context(), first, secret.New("five other random words"), at("192.0.2.1")); code(err) != "bad_link" {
		t.Errorf("a link that another one replaced: %v", err)
	}
	id, err := w.enter.Authenticate(t.Context(), w.login().Access, at("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ChangePassword(t.Context(), id, secret.New(password), secret.New("four other random words"), enter.Once{}, at("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if err := w.Reset(t.Context(), second, secret.New("five other random words"), at("192.0.2.1")); code(err) != "bad_link" {
		t.Errorf("a link of the very moment when the password was changed: %v", err)
	}
	third := reset()
	w.change(ident.Platform, func(ctx context.Context, wr store.Writer) error { // as disabling somebody does
		p, err := wr.Persons().Get(ctx, w.who)
		p.VoidBefore = w.clock.now().Add(time.Second)
		if err == nil {
			_, err = wr.Persons().Put(ctx, p)
		}
		return err
	})
	if err := w.Reset(t.Context(), third, secret.New("five other random words"), at("192.0.2.1")); code(err) != "bad_link" {
		t.Errorf("a link from before all was voided: %v", err)
	}
}

func TestASetupLinkIsMadeWhileNobodyCanAdminister(t *testing.T) {
	for what, end := range map[string]func(context.Context, *world, store.Writer) error{
		"a disabled administrator": func(ctx context.Context, w *world, wr store.Writer) error {
			p, err := wr.Persons().Get(ctx, w.who)
			if err != nil {
				return err
			}
			p.DisabledAt = w.clock.now()
			_, err = wr.Persons().Put(ctx, p)
			return err
		},
		"one whose role is over": func(ctx context.Context, w *world, wr store.Writer) error {
			ms, err := wr.Read().Memberships().Of(ctx, w.who)
			if err != nil {
				return err
			}
			ms[0].ExpiresAt = w.clock.now()
			_, err = wr.Memberships().Put(ctx, ms[0])
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			if link, err := w.SetupLink(t.Context()); err != nil || !link.IsZero() {
				t.Fatalf("a link while there is an administrator: %v", err)
			}
			w.change(ident.Platform, func(ctx context.Context, wr store.Writer) error { return end(ctx, w, wr) })
			link, err := w.SetupLink(t.Context())
			if err != nil || link.IsZero() {
				t.Fatalf("no link: %v", err)
			}
			second := signin.NewPerson{Email: "second@platform.example", Name: "Second", Password: secret.New("five other random words")}
			if _, _, err := w.Setup(t.Context(), link, second, nil, at("192.0.2.1")); err != nil {
				t.Fatal(err)
			}
			if link, err := w.SetupLink(t.Context()); err != nil || !link.IsZero() {
				t.Errorf("a link afterwards: %v", err)
			}
		})
	}
}

// Somebody whose password is reset while they accept must not bring another tenant to who reset it.
func TestASessionThatEndedMeanwhileAcceptsNothing(t *testing.T) {
	w := newWorld(t)
	_, link := w.invited("olga@acme.example")
	id, err := w.enter.Authenticate(t.Context(), w.login().Access, at("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	reset, err := w.HostReset(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Reset(t.Context(), reset, secret.New("five other random words"), at("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Accept(t.Context(), link, &id, signin.NewPerson{}, at("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("%v", err)
	}
}
