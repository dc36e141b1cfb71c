package audit_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
)

// ExampleCheckProof verifies a receipt with this package alone: what it takes is the entry, the proof that the server gave
// for it, and the log's verifier key, known from elsewhere.
func ExampleCheckProof() {
	origin := audit.Origin("ringfence.example", ident.Tenant{7})
	entry, receipt, key := receive(origin)

	verifier, err := note.NewVerifier(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	proof, err := audit.ParseProof(receipt)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the entry as it was:", audit.CheckProof(proof, entry, origin, verifier))
	forged := bytes.Replace(entry, []byte("device_deleted"), []byte("device_created"), 1)
	fmt.Println("with another action:", audit.CheckProof(proof, forged, origin, verifier))
	fmt.Println("as another tenant's:", audit.CheckProof(proof, entry, audit.Origin("ringfence.example", ident.Tenant{8}), verifier))

	// Output:
	// the entry as it was: <nil>
	// with another action: audit: not a proof of this entry
	// as another tenant's: audit: not a proof of this entry
}

// receive stands for the server: it keeps a log of three entries and answers the second one, its proof and the log's key.
func receive(origin string) (entry []byte, receipt, key string) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	secret, key, err := note.GenerateKey(rand.Reader, origin)
	must(err)
	signer, err := note.NewSigner(secret)
	must(err)
	var log audit.Head
	var leaves [][]byte
	var hashes []audit.Hash
	for i, action := range []audit.Action{audit.DeviceCreated, audit.DeviceDeleted, audit.DeviceCreated} {
		event := audit.Event{ID: ident.Entry{byte(i + 1)}, Action: action, Target: audit.Target{Kind: "device", ID: "dev_1"}, Outcome: audit.OK}
		now := time.Date(2026, 11, 24, 12, i, 0, 0, time.UTC)
		added, err := audit.Append(log, audit.Context{Tenant: ident.Tenant{7}, ActorKind: "human", Actor: "usr_1"}, []audit.Event{event}, now)
		must(err)
		log, leaves, hashes = added.Head, append(leaves, added.Entries[0].Leaf), append(hashes, added.Hashes...)
	}
	signed, err := audit.Checkpoint{Origin: origin, Size: log.Size, Root: log.Root()}.Sign(signer)
	must(err)
	proof, err := audit.Prove(1, log.Size, signed, func(at []int64) ([]audit.Hash, error) {
		found := make([]audit.Hash, len(at))
		for i, n := range at {
			found[i] = hashes[n]
		}
		return found, nil
	})
	must(err)
	return leaves[1], proof.String(), key
}
