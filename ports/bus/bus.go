// Package bus says what Ringfence wants of whatever carries records between its processes. A record on a bus is durable, is
// read at least once by each group of readers, and stands behind those of its key that were published before it. Who may read
// a topic is not asked here: topics that several tenants share are read by our own workers alone. An adapter that fills this
// port is proved by testkit/bustest.
package bus

import (
	"context"
	"time"

	"github.com/ringfence/ringfence/core/fault"
)

// Bounds of a record, in bytes and pieces. A longer one is refused with ErrTooLarge before anything is sent.
const (
	MaxValue       = 1 << 20
	MaxKey         = 512
	MaxHeaders     = 16
	MaxHeaderBytes = 8 << 10 // names and values of all headers
)

// Record is one thing on a topic. Topic, Key, Value and Headers are the publisher's, the rest is the bus's.
type Record struct {
	Topic   string
	Key     string // records of one key keep their order; never empty
	Value   []byte
	Headers []Header

	Partition int
	Offset    int64     // of the first record of a partition: 0, or that of the oldest one kept
	Time      time.Time // when the bus was given it
}

// Header says something about a record. Names may repeat in what is read, since others may have written it.
type Header struct {
	Name  string
	Value []byte
}

// Size is what a record takes of every bound in bytes, its own and those of what is under way.
func (r Record) Size() int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// Check is the refusal of a record that is out of bounds, which every adapter asks for first.
func (r Record) Check() error {
	switch {
	case r.Key == "":
		return ErrKey
	case len(r.Value) > MaxValue, len(r.Key) > MaxKey, len(r.Headers) > MaxHeaders, r.Size() > len(r.Key)+len(r.Value)+MaxHeaderBytes:
		return ErrTooLarge
	}
	return nil
}

// Mark says that everything of a partition below Next is done.
type Mark struct {
	Topic     string
	Partition int
	Next      int64
}

// Bus carries records.
//
// Every method must:
//   - never create a topic: one that is not there is ErrTopic;
//   - answer a fault of kind Unavailable if the bus cannot be reached, which says nothing about whether a record is there;
//   - end soon after its context does, with ErrAway, which says as little;
//   - keep nothing that its caller gave it once it has returned, and give nobody else what it returns.
type Bus interface {
	// Publish appends records and answers one error a record, in their order; nil is durable, on every replica that counts.
	//
	// It must:
	//   - keep the order of the records of one key: none is durable before those of its key that stand before it in this
	//     call or in one that has returned nil for them; a record may stand there twice, the first time in its order;
	//   - fail a record for its own sake alone: one that is too large, or whose topic is missing, leaves the others whole;
	//   - once a record has failed for another reason, fail all of its key that stand behind it in this call, so that the
	//     caller may send them again in their order;
	//   - wait for room, until its context ends, when too much is under way;
	//   - be safe for many callers at once.
	Publish(ctx context.Context, rs []Record) []error

	// Join makes the caller a member of a group. The group's members share out the partitions of the topics and take over
	// those of a member that leaves or falls silent, and partitions that are added. A new group begins with the oldest
	// records. A group and a topic have names; without them the answer is ErrName.
	Join(ctx context.Context, group string, topics ...string) (Member, error)

	// Browse reads from a place in a partition without being in a group, for people who look at dead letters: at most limit
	// records, none if the end is reached, from the oldest one if the place is no longer kept. It moves nobody's marks.
	Browse(ctx context.Context, topic string, partition int, from int64, limit int) ([]Record, error)

	// Lags says for each partition of the topics how far a group has come.
	Lags(ctx context.Context, group string, topics ...string) ([]Lag, error)

	// Close lets go of everything, members included, which leave their groups. Calls after it, and those that wait, answer
	// ErrClosed.
	Close() error
}

// Member reads in a group's name. It is used by one goroutine, but for Commit, which any may call.
type Member interface {
	// Fetch waits for records and answers at least one and at most limit, or none when wait is over.
	//
	// It must:
	//   - answer the records of a partition in their order, each once while this member keeps the partition;
	//   - answer what was not committed again, to whoever gets the partition next; never pass over a record; never answer
	//     one below a mark that was kept before this call;
	//   - let no partition wait for ever behind another that always has records;
	//   - answer ErrLost, and from then on nothing else, where going on would pass records over: a topic that is gone or was
	//     made anew, a partition that is missing, a mark that lies outside what is kept. Every member answers so, a new one
	//     too, until an operator has accepted what was lost; a group then goes on with the oldest record that is kept.
	Fetch(ctx context.Context, limit int, wait time.Duration) ([]Record, error)

	// Commit keeps marks. A mark below one that is kept, or of a partition that is another member's by now, changes nothing.
	// A mark beyond what Fetch answered of the partition would pass records over: ErrMark, and none of the marks is kept.
	// A fault of kind Unavailable is no loss: a later mark covers it.
	Commit(ctx context.Context, marks []Mark) error

	// Close leaves the group, so that others get its partitions at once. Calls after it answer ErrClosed.
	Close() error
}

// Lag is how far a group has come in one partition. First and End are the oldest record kept and the place of the next one.
type Lag struct {
	Topic     string
	Partition int
	Committed int64 // -1: nothing yet
	First     int64
	End       int64
	Oldest    time.Time // of the first record that is not committed; zero: there is none, or none that the asker may read
}

// Behind is how many records wait.
func (l Lag) Behind() int64 { return max(0, l.End-max(l.Committed, l.First)) }

// Named reports whether a group or topic may have a name.
func Named(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 249 && name != "." && name != ".."
}

// Errors of every adapter.
var (
	ErrClosed   = fault.New(fault.Unavailable, "bus_closed", "The bus is closed. Try again when the process is back.")
	ErrTopic    = fault.New(fault.Unavailable, "no_topic", "A topic is missing on the bus. Its operator creates it by `ringfence kafka topics --apply`.")
	ErrLost     = fault.New(fault.Unavailable, "bus_changed", "A topic of the bus was made anew, has fewer partitions, or no longer has what was not read yet. Look at what was lost, then accept it by `ringfence kafka topics --accept`.")
	ErrAway     = fault.New(fault.Unavailable, "bus_unavailable", "The bus cannot be reached or takes nothing at the moment. Try again; what was sent may be there already.")
	ErrTooLarge = fault.New(fault.Invalid, "record_too_large", "A record is larger than the bus carries. Send less at once.")
	ErrKey      = fault.New(fault.Invalid, "record_without_key", "A record has no key to keep its order by. Give it one.")
	ErrName     = fault.New(fault.Invalid, "bus_name", "A group or topic has no name, or one that is not made of 1 to 249 letters, digits, dots, hyphens and underscores. Name it.")
	ErrMark     = fault.New(fault.Internal, "mark_ahead", "A mark lies beyond what was read. This is a bug of the reader; nothing was committed.")
)
