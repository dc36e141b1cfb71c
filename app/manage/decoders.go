package manage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"unicode/utf8"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/sandbox"
	"github.com/ringfence/ringfence/ports/store"
)

func decoderShelf(r store.Reader) store.Shelf[ident.Decoder, decoder.Decoder] { return r.Decoders() }

// Decoder answers one decoder.
func (m *Manage) Decoder(ctx context.Context, s access.Scope, id ident.Decoder) (decoder.Decoder, error) {
	return get(ctx, m, s, decoderShelf, id)
}

// Decoders lists the tenant's decoders: all, or those that are named title.
func (m *Manage) Decoders(ctx context.Context, s access.Scope, q store.Query, title string) (store.Page[decoder.Decoder], error) {
	return named(ctx, m, s, access.DecoderRead, q, title, func(r store.Reader) store.Named[ident.Decoder, decoder.Decoder] { return r.Decoders() })
}

// CreateDecoder adds a decoder without a version.
func (m *Manage) CreateDecoder(ctx context.Context, c *Call, title string) (decoder.Decoder, error) {
	if err := name(title); err != nil {
		return decoder.Decoder{}, err
	}
	now := m.now()
	fresh := decoder.Decoder{Name: title, CreatedAt: now, UpdatedAt: now}
	ident.Fresh(m.enter.Mint, &fresh.ID)
	ev, err := m.event(ctx, c, audit.DecoderCreated, enter.Target("decoder", fresh.ID), audit.Set("name", "", title))
	if err != nil {
		return decoder.Decoder{}, err
	}
	var made decoder.Decoder
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		if err := room(ctx, "decoders", c.limits.Decoders, w.Read().Decoders()); err != nil {
			return "", nil, err
		}
		var err error
		made, err = w.Decoders().Put(ctx, fresh)
		return fresh.ID.String(), []audit.Event{ev}, err
	})
	return made, err
}

// RenameDecoder changes a decoder's name.
func (m *Manage) RenameDecoder(ctx context.Context, c *Call, id ident.Decoder, rev uint64, title string) (decoder.Decoder, error) {
	if err := name(title); err != nil {
		return decoder.Decoder{}, err
	}
	return m.changeDecoder(ctx, c, id, rev, audit.DecoderUpdated, func(_ context.Context, _ store.Writer, d *decoder.Decoder) error {
		d.Name = title
		return nil
	})
}

// DeleteDecoder removes a decoder that no device names, with its versions.
func (m *Manage) DeleteDecoder(ctx context.Context, c *Call, id ident.Decoder, rev uint64) error {
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		was, err := w.Decoders().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		used, err := w.Read().Devices().Find(ctx, store.Query{Reach: access.Everywhere, Limit: 1}, store.DeviceFilter{Decoder: id})
		if err != nil {
			return nil, err
		}
		if len(used.Items) > 0 {
			return nil, fault.New(fault.Conflict, "decoder_in_use", "Devices name this decoder. Give them another one first.")
		}
		for {
			vs, err := w.Read().Versions().Of(ctx, id, store.Query{Reach: access.Everywhere})
			if err != nil {
				return nil, err
			}
			if len(vs.Items) == 0 {
				break
			}
			for _, v := range vs.Items {
				if err := w.Versions().Delete(ctx, v.ID, v.Rev); err != nil {
					return nil, err
				}
			}
		}
		if err := w.Decoders().Delete(ctx, id, rev); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.DecoderDeleted, enter.Target("decoder", id), audit.Set("name", was.Name, ""), audit.Set("version", was.Active.String(), "")))
	})
}

// script is a version as the engine takes it.
func script(t ident.Tenant, v decoder.Version) sandbox.Script {
	return sandbox.Script{Tenant: t, Decoder: v.Decoder, Version: v.ID, Hash: v.Hash, Source: v.Source, Limits: decoder.DefaultLimits}
}

// CreateVersion saves a new text of a decoder. One that does not load is refused, with the engine's reason. It runs nowhere
// until it is activated.
func (m *Manage) CreateVersion(ctx context.Context, c *Call, id ident.Decoder, source string) (decoder.Version, error) {
	fresh, err := m.version(c, id, source)
	if err != nil {
		return decoder.Version{}, err
	}
	verdict, err := m.engine.Check(ctx, script(c.Scope.Tenant(), fresh))
	if err != nil {
		return decoder.Version{}, err
	}
	if verdict.Category != decoder.Success {
		return decoder.Version{}, fault.New(fault.Invalid, "decoder_does_not_load", "The script does not load (%s): %s", verdict.Category, verdict.Message).WithField("/source", string(verdict.Category))
	}
	var made decoder.Version
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		d, err := w.Decoders().Get(ctx, id)
		if err != nil {
			return "", nil, err
		}
		if err := m.keepVersions(ctx, w, c, d); err != nil {
			return "", nil, err
		}
		d.Latest++
		d.UpdatedAt = m.now()
		if _, err := w.Decoders().Put(ctx, d); err != nil {
			return "", nil, err
		}
		v := fresh
		v.Number = d.Latest
		if made, err = w.Versions().Put(ctx, v); err != nil {
			return "", nil, err
		}
		ev, err := one(m.event(ctx, c, audit.DecoderVersioned, enter.Target("decoder", id), audit.Set("version", "", v.ID.String()),
			audit.Set("number", "", num(v.Number)), audit.Set("hash", "", hex.EncodeToString(v.Hash[:]))))
		return v.ID.String(), ev, err
	})
	return made, err
}

func (m *Manage) version(c *Call, id ident.Decoder, source string) (decoder.Version, error) {
	if source == "" || len(source) > decoder.MaxScript || !utf8.ValidString(source) {
		return decoder.Version{}, fault.New(fault.Invalid, "bad_script", "A script has 1 to %d bytes of text.", decoder.MaxScript).WithField("/source", "empty or too long")
	}
	now := m.now()
	v := decoder.Version{Decoder: id, Source: source, Hash: sha256.Sum256([]byte(source)), Author: c.Scope.Actor().ID, CreatedAt: now, UpdatedAt: now}
	ident.Fresh(m.enter.Mint, &v.ID)
	return v, nil
}

// keepVersions makes room for one more: the oldest that is neither active nor kept for rolling back goes.
func (m *Manage) keepVersions(ctx context.Context, w store.Writer, c *Call, d decoder.Decoder) error {
	n, err := w.Read().Versions().Count(ctx, d.ID)
	if err != nil || n < c.limits.Versions {
		return err
	}
	page, err := w.Read().Versions().Of(ctx, d.ID, store.Query{Reach: access.Everywhere})
	if err != nil {
		return err
	}
	for _, v := range slices.Backward(page.Items) {
		if v.ID != d.Active && !slices.Contains(d.Previous, v.ID) {
			return w.Versions().Delete(ctx, v.ID, v.Rev)
		}
	}
	return full("versions of this decoder", c.limits.Versions, n)
}

func versionShelf(r store.Reader) store.Shelf[ident.Version, decoder.Version] { return r.Versions() }

// Version answers one version of a decoder, with its text.
func (m *Manage) Version(ctx context.Context, s access.Scope, of ident.Decoder, id ident.Version) (decoder.Version, error) {
	v, err := get(ctx, m, s, versionShelf, id)
	if err == nil && v.Decoder != of {
		err = fault.Missing()
	}
	return v, err
}

// Versions lists a decoder's versions, newest first.
func (m *Manage) Versions(ctx context.Context, s access.Scope, of ident.Decoder, q store.Query) (store.Page[decoder.Version], error) {
	var page store.Page[decoder.Version]
	q.Reach = access.Everywhere
	err := m.store.View(ctx, s, func(ctx context.Context, r store.Reader) error {
		if _, err := r.Decoders().Get(ctx, of); err != nil {
			return err
		}
		var err error
		page, err = r.Versions().Of(ctx, of, q)
		return err
	})
	return page, err
}

// Activate makes a version the one that runs.
func (m *Manage) Activate(ctx context.Context, c *Call, id ident.Decoder, rev uint64, v ident.Version) (decoder.Decoder, error) {
	return m.changeDecoder(ctx, c, id, rev, audit.DecoderActivated, func(ctx context.Context, w store.Writer, d *decoder.Decoder) error {
		found, err := w.Versions().Get(ctx, v)
		if err == nil && found.Decoder != id {
			err = fault.Missing()
		}
		if err != nil {
			return refer(err, "/version_id", "version")
		}
		if d.Active == v {
			return fault.New(fault.Conflict, "already_active", "This version is active already.")
		}
		if !d.Active.IsZero() {
			d.Previous = append([]ident.Version{d.Active}, d.Previous...)
			d.Previous = d.Previous[:min(len(d.Previous), decoder.MaxPrevious)]
		}
		d.Active = v
		return nil
	})
}

// RollBack makes the version active that was before.
func (m *Manage) RollBack(ctx context.Context, c *Call, id ident.Decoder, rev uint64) (decoder.Decoder, error) {
	return m.changeDecoder(ctx, c, id, rev, audit.DecoderRolled, func(_ context.Context, _ store.Writer, d *decoder.Decoder) error {
		if len(d.Previous) == 0 {
			return fault.New(fault.Conflict, "nothing_before", "No earlier version was active. Activate one.")
		}
		d.Active, d.Previous = d.Previous[0], d.Previous[1:]
		return nil
	})
}

func (m *Manage) changeDecoder(ctx context.Context, c *Call, id ident.Decoder, rev uint64, a audit.Action, edit func(context.Context, store.Writer, *decoder.Decoder) error) (decoder.Decoder, error) {
	var was, out decoder.Decoder
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		d, err := w.Decoders().Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if d.Rev != rev {
			return nil, store.ErrRevision
		}
		was = d
		d.Previous = slices.Clone(d.Previous)
		if err := edit(ctx, w, &d); err != nil {
			return nil, err
		}
		if d.Name == was.Name && d.Active == was.Active && slices.Equal(d.Previous, was.Previous) {
			out = was
			return nil, errUnchanged
		}
		d.UpdatedAt = m.now()
		if out, err = w.Decoders().Put(ctx, d); err != nil {
			return nil, err
		}
		hash := ""
		if !d.Active.IsZero() && d.Active != was.Active {
			v, err := w.Versions().Get(ctx, d.Active)
			if err != nil {
				return nil, err
			}
			hash = hex.EncodeToString(v.Hash[:])
		}
		return one(m.event(ctx, c, a, enter.Target("decoder", id), audit.Set("name", was.Name, d.Name),
			audit.Set("version", was.Active.String(), d.Active.String()), audit.Set("hash", "", hash)))
	})
	if err == nil && was.Active != out.Active && !was.Active.IsZero() {
		m.again(c.Scope.Tenant(), was.Active)
	}
	return out, err
}

// DryRun runs a script on an input and keeps nothing: an unsaved text or a saved version, one of the two.
func (m *Manage) DryRun(ctx context.Context, s access.Scope, id ident.Decoder, v ident.Version, source string, in decoder.Input) (decoder.Result, error) {
	if v.IsZero() == (source == "") {
		return decoder.Result{}, fault.New(fault.Invalid, "one_script", "Name a saved version or give a text to run: exactly one of the two.").WithField("/source", "exactly one of source and version_id")
	}
	c := &Call{Scope: s}
	var run decoder.Version
	var err error
	if source != "" {
		if _, err = m.Decoder(ctx, s, id); err == nil {
			run, err = m.version(c, id, source)
		}
	} else if run, err = m.Version(ctx, s, id, v); fault.Is(err, fault.NotFound) {
		err = refer(err, "/version_id", "version")
	}
	if err != nil {
		return decoder.Result{}, err
	}
	return m.engine.Run(ctx, sandbox.Job{Script: script(s.Tenant(), run), Input: in})
}
