// Package access decides who may do what, where. It holds the permission catalogue, roles and memberships, the pure
// evaluator over memberships × roles × org tree, and Scope, the sealed proof of a decision without which no tenant's data
// is reachable. It knows no transport, no storage and no credential.
package access
