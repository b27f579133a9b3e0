package routes

import "maps"

// View is the routing table and the endpoints as one process last saw them in
// Consul. It is never changed once it is published.
//
// What is shown is the last good state: when Consul does not answer, Table and
// Endpoints stay as they were and Error says why nothing newer is known. So a
// proxy goes on serving by them, and a controller that sees an Error takes
// nothing away.
type View struct {
	Known     bool              // the table has been read, and every service that it named then asked for, once
	Error     string            // why what is shown may be old; "": it is not
	Table     Table             // what to serve by
	Index     map[string]uint64 // application -> ModifyIndex of its entry in Consul KV, good or bad; absent: there is none
	Kept      map[string]string // application -> why its route in Table is not what its entry in Consul says now
	Endpoints []Endpoint        // of every service that Table names; sorted by application, deployment and replica
	// The proxies that hand out slots, by address; nil where nobody asked.
	Gatekeepers []Gatekeeper
}

// Written returns the part of Table that stands in Consul as it is shown.
// Routes are missing from it that are only kept from earlier, because their
// entry is gone after a loss of Consul's data or holds something that is not
// a route: these are to be written again, over the entry of that Index.
func (v View) Written() Table {
	if len(v.Kept) == 0 {
		return v.Table
	}
	table := maps.Clone(v.Table)
	maps.DeleteFunc(table, func(application string, _ Route) bool {
		_, kept := v.Kept[application]
		return kept
	})
	return table
}
