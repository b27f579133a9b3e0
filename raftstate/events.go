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

// addEvents appends events and lets the oldest go. The autoscaler's own may
// fill half of the list, so that what people decided can be read for long
// however busy it is.
func (s *State) addEvents(added ...Event) {
	list := slices.Concat(s.Events, added) // published States share the old array
	surplus := -maxAutoscaled
	for _, e := range list {
		if e.Type == eventAutoscaled {
			surplus++
		}
	}
	list = slices.DeleteFunc(list, func(e Event) bool {
		if surplus <= 0 || e.Type != eventAutoscaled {
			return false
		}
		surplus--
		return true
	})
	s.Events = slices.Clone(list[max(0, len(list)-maxEvents):]) // without the room of a large batch
}
