package raftstate

import "slices"

// eventAutoscaled is the type of the events of targets that no person set.
const eventAutoscaled = "autoscaled"

func (s *State) newEvent(c Command, kind, application, deployment, message string) Event {
	return Event{
		Index: s.Index, At: c.At, By: c.By, Type: kind,
		Application: application, Deployment: deployment, Message: message,
	}
}

func (s *State) event(c Command, kind, application, deployment, message string) {
	s.addEvents(s.newEvent(c, kind, application, deployment, message))
}

func (s *State) groupEvent(c Command, kind, group, message string) {
	e := s.newEvent(c, kind, "", "", message)
	e.WorkerGroup = group
	s.addEvents(e)
}

// unasked says whether events of a type tell of what no person decided.
func unasked(kind string) bool { return kind == eventAutoscaled || ofNodes(kind) }

// addEvents appends events and lets the oldest go. The autoscalers' own may
// fill half of the list, so that what people decided can be read for long
// however busy they are.
func (s *State) addEvents(added ...Event) {
	list := slices.Concat(s.Events, added) // published States share the old array
	surplus := -maxUnasked
	for _, e := range list {
		if unasked(e.Type) {
			surplus++
		}
	}
	list = slices.DeleteFunc(list, func(e Event) bool {
		if surplus <= 0 || !unasked(e.Type) {
			return false
		}
		surplus--
		return true
	})
	s.Events = slices.Clone(list[max(0, len(list)-maxEvents):]) // without the room of a large batch
}
