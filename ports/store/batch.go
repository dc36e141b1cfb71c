package store

import (
	"errors"
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/device"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/uplink"
)

// Part is what became of events of one tenant that were accepted on a bus, for IngestBatch.
//
// A row must:
//   - have an Uplink of Rev 0, which is kept at Rev 1, a Reading only of that and if it was processed, an Outcome only of that and
//     unless it was quarantined, an Out only with a Reading. The uplink's id belongs to one event for ever, with one ArrivedAt;
//   - leave no trace if an uplink of its id is there already, or one came within a week that was a duplicate: the bus delivered
//     it again;
//   - take its DedupeKey, if that is not zero, until DedupeWindow after ArrivedAt, unless another id holds it at ArrivedAt. Then,
//     if the payload is the same, nothing of it is kept but DuplicateOutcome; else its uplink alone is kept, quarantined with the
//     reason duplicate_mismatch, without its device. Of rows with one key the first takes it;
//   - if its uplink is accepted, wait until NotBefore for Due, as if Accept had kept it;
//   - write its Outcome and its Reading with its Out, if there are any, and as Finish does the device's last-seen, unless the
//     uplink is accepted or quarantined, and the device's latest reading. Neither goes back;
//   - count one up the QuarantineFold of each uplink that is kept quarantined.
type Part struct {
	Scope access.Scope
	Seen  Seen
	Rows  []Finished
	Wait  bool // for Changes of its tenant that are under way, as long as they take, and keep the batch's others waiting
}

// Seen are the revisions of what rows were decided from; a record of revision 0 was not there.
type Seen struct {
	Revision uint64 // the tenant's policy revision: nodes, and whether the tenant is active
	Entries  uint64 // of the tenant's audit log, if that was looked at: while it has no more, all else here is as it was
	Sources  map[ident.Source]uint64
	Keys     map[ident.Key]uint64
	Devices  map[ident.Device]uint64
	Decoders map[ident.Decoder]uint64
	Unknown  []device.Address // that no living device had
}

// Bounds of a batch.
const (
	MaxParts = 1_000
	MaxRows  = 1_000 // of a part
)

// Check answers what is wrong with a part before anything is read.
func (p Part) Check() error {
	switch {
	case p.Scope.IsZero():
		return ErrScope
	case !p.Scope.Allowed():
		return ErrDenied
	case len(p.Rows) > MaxRows:
		return fault.New(fault.Invalid, "too_many_rows", "A part of a batch may have %d rows. Split it.", MaxRows)
	case slices.ContainsFunc(p.Rows, func(f Finished) bool { return f.Uplink.Rev != 0 || f.Uplink.ID.IsZero() }):
		return fault.New(fault.Invalid, "known_uplink", "A row of a batch is a new uplink, with an id and revision 0.")
	case slices.ContainsFunc(p.Rows, strange):
		return fault.New(fault.Invalid, "strange_row", "A reading is of its row's uplink, if that was processed, and an outcome if it was not quarantined; what goes out is of a reading, with a key.")
	}
	return nil
}

func strange(f Finished) bool {
	return f.Out != nil && (f.Reading == nil || f.Out.Key == "" || f.Out.Event != f.Uplink.ID) || f.Reading != nil && (f.Reading.Uplink != f.Uplink.ID || f.Uplink.State != uplink.Processed) || f.Outcome != nil && (f.Outcome.Uplink != f.Uplink.ID || f.Uplink.State == uplink.Quarantined)
}

// CheckBatch answers what is wrong with all parts of a batch, or with each: an adapter's first step. The parts without an error
// are in the order in which they must be written, the platform's first, so that two batches never wait for each other.
func CheckBatch(parts []Part, all error) (order []int, errs []error) {
	errs = make([]error, len(parts))
	if all == nil && len(parts) > MaxParts {
		all = fault.New(fault.Invalid, "too_many_parts", "A batch may have %d parts. Split it.", MaxParts)
	}
	order = make([]int, 0, len(parts))
	for i := range parts {
		if errs[i] = all; all == nil {
			errs[i] = parts[i].Check()
		}
		if errs[i] == nil {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := parts[i].Scope.Tenant(), parts[j].Scope.Tenant()
		switch {
		case a == b:
			return 0
		case a == ident.Platform:
			return -1
		case b == ident.Platform:
			return 1
		}
		return a.Compare(b)
	})
	return order, errs
}

// TellStale tells Revised whose parts were refused as stale.
func TellStale(tell Revised, parts []Part, errs []error) {
	for i, err := range errs {
		if errors.Is(err, ErrStale) {
			tell(parts[i].Scope.Tenant(), 0)
		}
	}
}

// DuplicateOutcome is what is kept of a row whose key another event holds: it names the first. Its id and time are the event's
// own, so that the same one again is known.
func DuplicateOutcome(u uplink.Uplink, first ident.Uplink) uplink.Outcome {
	return uplink.Outcome{ID: ident.Outcome(u.ID), Uplink: u.ID, Device: u.Device, Node: u.Node, Category: decoder.Duplicate, Message: "A duplicate of " + first.String() + ".", At: u.ArrivedAt}
}

// QuarantineFold is the hourly counter of a source's quarantined events, so that a flood is no flood of audit entries.
func QuarantineFold(u uplink.Uplink, reason uplink.Reason) Fold {
	hour := u.ArrivedAt.Truncate(time.Hour)
	return Fold{Kind: "quarantine", Key: u.Source.String() + " " + string(reason), Node: u.Node, Bucket: hour, Until: hour.Add(time.Hour)}
}
