// Package localauth fills ports/identity.Passwords: Argon2id in PHC strings, PRECIS, and a list of known passwords.
package localauth

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/trustelem/zxcvbn/frequency"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"

	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/identity"
)

// Cost of one hash (security.md §1.2).
type Cost struct {
	Memory uint32 // KiB
	Time   uint32
}

// Check refuses a cost below the floor.
func (c Cost) Check() error {
	if uint64(c.Memory)*uint64(c.Time) < uint64(FloorCost.Memory)*uint64(FloorCost.Time) {
		return fmt.Errorf("a cost of %d KiB in %d passes is below the floor of %d KiB in %d: a stolen hash is guessed too cheaply; raise one or the other", c.Memory, c.Time, FloorCost.Memory, FloorCost.Time)
	}
	return nil
}

// The default, and the floor below which a cost is refused; Argon2id trades memory for time between them.
var (
	DefaultCost = Cost{Memory: 47_104, Time: 1}
	FloorCost   = Cost{Memory: 19_456, Time: 2}
)

const (
	saltLen = 16
	tagLen  = 32
	// What a stored string may ask for at most: it was ours when it was written, but it comes from a database.
	maxMemory = 1 << 20
	maxTime   = 16
)

// Options of the adapter.
type Options struct {
	Cost     Cost      // zero: DefaultCost
	Parallel int       // hashes at the same time; zero: GOMAXPROCS
	Waiting  int       // callers that may wait for one; zero: 64
	Known    io.Reader // more known passwords, one a line; nil: the built-in list alone
	TestCost bool      // allows a cost below the floor: tests alone
}

// Passwords is the adapter. Use New.
type Passwords struct {
	cost  Cost
	slots chan struct{}
	queue chan struct{}
	known map[string]struct{}
	dummy string
}

var _ identity.Passwords = (*Passwords)(nil)

// New reads the lists of known passwords.
func New(o Options) (*Passwords, error) {
	if o.Cost == (Cost{}) {
		o.Cost = DefaultCost
	}
	if err := o.Cost.Check(); err != nil && !o.TestCost {
		return nil, fmt.Errorf("localauth: %w", err)
	}
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.Waiting <= 0 {
		o.Waiting = 64
	}
	p := &Passwords{cost: o.Cost, slots: make(chan struct{}, o.Parallel), queue: make(chan struct{}, o.Parallel+o.Waiting), known: map[string]struct{}{}}
	for _, word := range frequency.FrequencyLists["passwords"] {
		p.known[strings.ToLower(word)] = struct{}{}
	}
	if len(p.known) < 10_000 {
		return nil, fmt.Errorf("localauth: the list of known passwords has only %d entries", len(p.known))
	}
	if o.Known != nil {
		lines := bufio.NewScanner(o.Known)
		for lines.Scan() {
			if word := strings.ToLower(strings.TrimSpace(lines.Text())); word != "" {
				p.known[word] = struct{}{}
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("localauth: known passwords: %w", err)
		}
	}
	p.dummy = p.encode(make([]byte, saltLen), make([]byte, tagLen))
	return p, nil
}

// normal is the password's one form. What PRECIS refuses is no password that could have been set.
func normal(password secret.Text) (string, error) {
	text := password.Reveal()
	if len(text) > 4*credential.MaxPassword {
		return "", fault.New(fault.Invalid, "weak_password", "A password may have %d bytes.", credential.MaxPassword).WithField("/password", "too long")
	}
	out, err := precis.OpaqueString.String(text)
	if err != nil {
		return "", fault.New(fault.Invalid, "weak_password", "A password has at least %d characters, and none of them is a control character.", credential.MinPassword).WithField("/password", "not allowed")
	}
	return out, nil
}

// Check judges a new password.
func (p *Passwords) Check(password secret.Text, context []string) error {
	text, err := normal(password)
	if err != nil {
		return err
	}
	return credential.CheckPassword(text, func(s string) bool { _, ok := p.known[s]; return ok }, context)
}

// Hash answers a PHC string.
func (p *Passwords) Hash(ctx context.Context, password secret.Text) (string, error) {
	text, err := normal(password)
	if err != nil {
		return "", err
	}
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt) // never fails: the runtime stops the program instead
	leave, err := p.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return p.encode(salt, argon2.IDKey([]byte(text), salt, p.cost.Time, p.cost.Memory, 1, tagLen)), nil
}

// Verify compares.
func (p *Passwords) Verify(ctx context.Context, phc string, password secret.Text) (ok, stale bool, err error) {
	absent := phc == ""
	if absent {
		phc = p.dummy
	}
	h, err := parse(phc)
	if err != nil {
		return false, false, err
	}
	text, err := normal(password)
	if err != nil {
		text, absent = "", true // it cannot be right, and must not be quicker for it
	}
	leave, err := p.enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
	tag := argon2.IDKey([]byte(text), h.salt, h.cost.Time, h.cost.Memory, 1, tagLen)
	same := subtle.ConstantTimeCompare(tag, h.tag) == 1
	return same && !absent, h.cost != p.cost, nil
}

// enter takes a slot. Who finds the queue full, too, is told when to come back: a flood of sign-ins must not take the node.
func (p *Passwords) enter(ctx context.Context) (func(), error) {
	select {
	case p.queue <- struct{}{}:
	default:
		return nil, fault.New(fault.Exhausted, "sign_in_busy", "Too many people are signing in at the moment. Try again in a few seconds.").WithRetry(2 * time.Second)
	}
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots; <-p.queue }, nil
	case <-ctx.Done():
		<-p.queue
		return nil, ctx.Err()
	}
}

var b64 = base64.RawStdEncoding.Strict()

func (p *Passwords) encode(salt, tag []byte) string {
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", p.cost.Memory, p.cost.Time, b64.EncodeToString(salt), b64.EncodeToString(tag))
}

type hash struct {
	cost      Cost
	salt, tag []byte
}

// parse reads a PHC string of ours in its one spelling.
func parse(phc string) (hash, error) {
	var h hash
	bad := fault.New(fault.Internal, "bad_phc", "A stored password hash could not be read.")
	if len(phc) > 256 {
		return h, bad
	}
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return h, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=1", &h.cost.Memory, &h.cost.Time); err != nil || n != 2 {
		return h, bad
	}
	if parts[3] != fmt.Sprintf("m=%d,t=%d,p=1", h.cost.Memory, h.cost.Time) || h.cost.Memory < 8 || h.cost.Memory > maxMemory || h.cost.Time < 1 || h.cost.Time > maxTime {
		return h, bad
	}
	var err1, err2 error
	h.salt, err1 = b64.DecodeString(parts[4])
	h.tag, err2 = b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) != saltLen || len(h.tag) != tagLen {
		return h, bad
	}
	return h, nil
}
