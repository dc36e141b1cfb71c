package store

import (
	"context"
	"hash/fnv"

	"github.com/ringfence/ringfence/core/ident"
)

// Outgoing is a record for its tenant's own topic on a bus, kept in the transaction that makes what it tells of.
type Outgoing struct {
	Event ident.Uplink // by which a reader of the topic knows what comes twice
	Key   string       // records of one key keep their order
	Value []byte
}

// Sent is an Outgoing on its way.
type Sent struct {
	Tenant ident.Tenant
	Outgoing
}

// OutboxShards is in how many shards an outbox lies, so that several relays work at the same time.
const OutboxShards = 16

// OutboxShard is where all records of a tenant's key lie.
func OutboxShard(t ident.Tenant, key string) int {
	h := fnv.New32a()
	_, _ = h.Write(t[:]) // never fails
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % OutboxShards)
}

// Round is one turn of a relay at a shard.
type Round struct {
	Shard  int
	After  ident.Tenant   // begin with the tenant behind this one; the last one is followed by none
	Except []ident.Tenant // who cannot be sent anything now
	Only   []ident.Tenant // if there are any: these alone, whatever After and Except say
	Limit  int            // records at most
}

// Outbox is what was written for the bus and has not been sent yet.
type Outbox interface {
	// Relay hands publish the oldest records of a shard, and lets go of those for which it answers nil, one answer a record. It
	// answers whether the shard was free.
	//
	// It must:
	//   - be at a shard for one caller at a time, over all processes, and answer false at once to others; take it from a
	//     process that is killed at once, and from one that stands still within two minutes;
	//   - hand over what is committed alone, of each key the oldest record first: a key's records have the order in which the
	//     transactions that wrote them came to be, and those of one transaction that of its rows;
	//   - share the limit among the tenants behind After, so that none with many records keeps others waiting, and not call publish
	//     if there is nothing;
	//   - keep what publish answers an error for, all if it panics or answers less, or if its own context ends: they are handed over
	//     again. What is let go of is never handed over again.
	Relay(ctx context.Context, r Round, publish func(context.Context, []Sent) []error) (free bool, err error)

	// Waiting are the shards that have records, in one quick look: most of the time there are none.
	Waiting(ctx context.Context) (shards []int, err error)
}
