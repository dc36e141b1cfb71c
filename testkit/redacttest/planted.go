package redacttest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/principal"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// Bug is a leak that is planted in a server, and what Check must find of it.
type Bug struct {
	Name    string
	Finding string // stands in a finding

	// Handler stands before the server's, and Store spoils what stands between application and store; nil is nothing.
	Handler func(next http.Handler, log *slog.Logger, count func(series string, n int64)) http.Handler
	Store   func(*Trouble)
}

// Bugs are fresh ones: some remember what they saw.
func Bugs() []Bug {
	typed := &memory{}
	return []Bug{
		{Name: "the credential is logged", Finding: ": raw of the access token of logIn, the secret", Handler: logs(func(r *http.Request, _ []byte) string { return r.Header.Get("Authorization") })},
		{Name: "a refused credential is logged", Finding: "Authorization of ", Handler: logs(func(r *http.Request, _ []byte) string {
			if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer rf_") {
				return ""
			}
			return r.Header.Get("Authorization")
		})},
		{Name: "the cookie is logged in hex", Finding: ": hex of the cookie of logIn, the secret", Handler: logs(func(r *http.Request, _ []byte) string { return hex.EncodeToString([]byte(r.Header.Get("Cookie"))) })},
		{Name: "bodies are logged in base64", Finding: ": base64 of password of acceptInvitation, the secret", Handler: logs(func(_ *http.Request, body []byte) string { return base64.StdEncoding.EncodeToString(body) })},
		{Name: "passwords are logged in base64url", Finding: ": base64url of password of setUp, the secret", Handler: logs(func(_ *http.Request, body []byte) string {
			return base64.RawURLEncoding.EncodeToString([]byte(field(body, "password")))
		})},
		{Name: "bodies are logged as they are", Finding: ": JSON-escaped of password of setUp, the secret", Handler: logs(func(_ *http.Request, body []byte) string { return string(body) })},
		{Name: "queries are logged", Finding: ": URL-escaped of cursor in the query of ", Handler: logs(func(r *http.Request, _ []byte) string { return r.URL.RawQuery })},
		{Name: "who signs in is logged", Finding: "the e-mail address", Handler: logs(func(r *http.Request, body []byte) string {
			if !strings.HasSuffix(r.URL.Path, "/login") {
				return ""
			}
			return field(body, "email")
		})},
		{Name: "a payload is logged", Finding: ": base64 of the payload of its owner, the payload", Handler: logs(func(_ *http.Request, body []byte) string { return field(body, "payload") })},
		{Name: "a metric counts by device", Finding: "metrics on the way: JSON-escaped of the device name", Handler: func(next http.Handler, _ *slog.Logger, count func(string, int64)) http.Handler {
			return read(next, func(r *http.Request, body []byte) {
				if strings.HasSuffix(r.URL.Path, "/devices") && r.Method == http.MethodPost {
					label, _ := json.Marshal(field(body, "name"))
					count("devices_made_total{name="+string(label)+"}", 1)
				}
			})
		}},
		{Name: "an error repeats its input", Finding: "error answer: ", Handler: func(next http.Handler, _ *slog.Logger, _ func(string, int64)) http.Handler {
			return after(next, func(_ *http.Request, body []byte, a *recorder) {
				if a.status >= 400 {
					a.body.Write(body)
				}
			})
		}},
		{Name: "an answer is kept for the next caller", Finding: "answer to another: ", Handler: func(next http.Handler, _ *slog.Logger, _ func(string, int64)) http.Handler {
			var kept []byte
			return after(next, func(r *http.Request, _ []byte, a *recorder) {
				if !strings.HasSuffix(r.URL.Path, "/nodes") || r.Method != http.MethodGet || a.status != http.StatusOK {
					return
				}
				if kept == nil {
					kept = bytes.Clone(a.body.Bytes())
				}
				a.body.Reset()
				a.body.Write(kept)
			})
		}},
		{Name: "the store's words reach the caller", Finding: "error answer: JSON-escaped of an error of the store's under ", Store: func(t *Trouble) {
			t.Blurt = func(err error) error {
				if fault.As(err) == nil {
					return fault.New(fault.Unavailable, "store_unavailable", "The store is away: %s.", err)
				}
				return err
			}
		}},
		{Name: "the store's words reach the log", Finding: " of the store's under getMe, the secret", Store: func(t *Trouble) {
			t.Blurt = func(err error) error {
				if fault.As(err) == nil {
					return fault.Ours("the store said " + err.Error())
				}
				return err
			}
		}},
		{Name: "a password is kept beside the name", Finding: "database, persons.body: JSON-escaped of password of setUp, the secret", Handler: typed.handler("password"), Store: func(t *Trouble) {
			t.Spoil = func(w store.Writer, es []audit.Event) (store.Writer, []audit.Event) { return people{w, typed}, es }
		}},
		{Name: "a secret variable is kept in clear", Finding: "a secret variable of createDevice, the secret", Handler: typed.handler("variables"), Store: func(t *Trouble) {
			t.Spoil = func(w store.Writer, es []audit.Event) (store.Writer, []audit.Event) { return machines{w, typed}, es }
		}},
		{Name: "an entry holds a name in clear", Finding: "audit with tenant A, device_created of device: JSON-escaped of the device name", Store: func(t *Trouble) {
			t.Spoil = func(w store.Writer, es []audit.Event) (store.Writer, []audit.Event) {
				for i := range es {
					for _, ch := range es[i].Changes {
						if ch.Field == "name" {
							es[i].Changes = append(es[i].Changes[:len(es[i].Changes):len(es[i].Changes)], audit.Set("state", "", ch.New.Value))
						}
					}
				}
				return w, es
			}
		}},
		{Name: "an entry holds a password as its reason", Finding: "audit with tenant A, ", Handler: typed.handler("password"), Store: func(t *Trouble) {
			t.Spoil = func(w store.Writer, es []audit.Event) (store.Writer, []audit.Event) {
				for i := range es {
					es[i].Reason = typed.get()
				}
				return w, es
			}
		}},
		{Name: "a counter is named after a payload", Finding: "database, folds.key: raw of the payload of its owner, the payload", Store: func(t *Trouble) {
			t.Spill = func(f store.Flow) store.Flow { return counting{f} }
		}},
		{Name: "a failure is counted by e-mail address", Finding: "database, failures.key: raw of an invitation, the e-mail address", Handler: typed.handler("email"), Store: func(t *Trouble) {
			t.Spill = func(f store.Flow) store.Flow { return failing{f, typed} }
		}},
	}
}

// read lets a bug see a request's body.
func read(next http.Handler, see func(*http.Request, []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			body = nil
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		see(r, body)
		next.ServeHTTP(w, r)
	})
}

// after lets a bug change an answer.
func after(next http.Handler, change func(*http.Request, []byte, *recorder)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		a := &recorder{header: w.Header()}
		read(next, func(_ *http.Request, b []byte) { body = b }).ServeHTTP(a, r)
		change(r, body, a)
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body.Bytes()) // to memory
	})
}

func logs(what func(*http.Request, []byte) string) func(http.Handler, *slog.Logger, func(string, int64)) http.Handler {
	return func(next http.Handler, log *slog.Logger, _ func(string, int64)) http.Handler {
		return read(next, func(r *http.Request, body []byte) {
			if text := what(r, body); text != "" {
				log.DebugContext(r.Context(), "a request came in", slog.String("detail", text))
			}
		})
	}
}

// field is a text of a JSON object.
func field(body []byte, name string) string {
	var v object
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	s, ok := v[name].(string)
	if !ok {
		return ""
	}
	return s
}

// memory is what a bug saw last.
type memory struct {
	mu   sync.Mutex
	text string
}

func (m *memory) get() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text
}

// handler remembers the text of a field, or of the last variable.
func (m *memory) handler(name string) func(http.Handler, *slog.Logger, func(string, int64)) http.Handler {
	return func(next http.Handler, _ *slog.Logger, _ func(string, int64)) http.Handler {
		return read(next, func(_ *http.Request, body []byte) {
			text := field(body, name)
			var v struct{ Variables []struct{ Value string } }
			if name == "variables" && json.Unmarshal(body, &v) == nil && len(v.Variables) > 0 {
				text = v.Variables[len(v.Variables)-1].Value
			}
			if text != "" {
				m.mu.Lock()
				m.text = text
				m.mu.Unlock()
			}
		})
	}
}

type people struct {
	store.Writer
	typed *memory
}

func (p people) Persons() store.Records[ident.Principal, principal.Person] {
	return persons{p.Writer.Persons(), p.typed}
}

type persons struct {
	store.Records[ident.Principal, principal.Person]
	typed *memory
}

func (p persons) Put(ctx context.Context, v principal.Person) (principal.Person, error) {
	v.Name += " " + p.typed.get()
	return p.Records.Put(ctx, v)
}

type machines struct {
	store.Writer
	typed *memory
}

func (m machines) Devices() store.Records[ident.Device, device.Device] {
	return devices{m.Writer.Devices(), m.typed}
}

type devices struct {
	store.Records[ident.Device, device.Device]
	typed *memory
}

func (d devices) Put(ctx context.Context, v device.Device) (device.Device, error) {
	for i := range v.Variables {
		if v.Variables[i].Secret {
			v.Variables[i].Value = d.typed.get()
		}
	}
	return d.Records.Put(ctx, v)
}

type counting struct{ store.Flow }

func (c counting) Accept(ctx context.Context, us []uplink.Uplink) ([]store.Verdict, error) {
	vs, err := c.Flow.Accept(ctx, us)
	if err == nil {
		err = c.Flow.Fold(ctx, store.Fold{Kind: "quarantine", Key: string(us[0].Payload), Bucket: us[0].ArrivedAt, Until: us[0].ArrivedAt}, 1)
	}
	return vs, err
}

type failing struct {
	store.Flow
	typed *memory
}

func (f failing) SetFailures(ctx context.Context, p principal.Failure) error {
	p.Key = f.typed.get()
	return f.Flow.SetFailures(ctx, p)
}
