package appspec

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/jobspec2"
)

// task reads a task block as Nomad's own job parser does: by handing it over.
// The parser takes whole jobs, evaluates without bounds and tells places as
// text, so it is given a job made for it, whose one task holds the user's
// blocks with each expression already worked out. See taskText.
func (p *parser) task(sc *scope, path string, block *hcl.Block, kind taskKind) *api.Task {
	p.put(path, block.DefRange)
	body, ok := block.Body.(*hclsyntax.Body)
	if !ok {
		return nil
	}
	if body.Attributes["driver"] == nil {
		p.spoil(path + ".driver")
		p.add(errorAt(block.DefRange, "Missing driver", needsDriver))
	}
	t := &taskText{parser: p, scope: sc, path: path, kind: kind}
	t.write("job \"j\" {\ngroup \"g\" {\ntask \"t\" {\n", block.DefRange)
	t.body(path, body, sc.ctx)
	t.write("}\n}\n}\n", block.DefRange)
	if t.tooLong() {
		p.spoil(path)
		p.add(errorAt(block.DefRange, "Task too large", "With its expressions worked out, a task may have at most %d bytes, and %d attributes and blocks.", maxTaskText, maxTaskItems))
		return nil
	}
	task, err := parseJob(t.out.String())
	if err != nil {
		p.spoil(path)
		p.add(t.diagnostics(err, block.DefRange)...)
		return nil
	}
	if task, err = asRead(task); err != nil {
		p.spoil(path)
		p.add(errorAt(block.DefRange, "Invalid task", "%s.", err))
		return nil
	}
	return task
}

// jobName marks the job's own places in the parser's errors.
const jobName = "serve-nomad-task"

// parseJob returns the only task of the job.
func parseJob(job string) (task *api.Task, err error) {
	defer func() {
		if r := recover(); r != nil {
			task, err = nil, fmt.Errorf("nomad's job parser cannot read it: %v", r)
		}
	}()
	parsed, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{
		Path: jobName, Body: []byte(job), AllowFS: false, Strict: true,
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // its text is taken apart
	}
	if len(parsed.TaskGroups) != 1 || len(parsed.TaskGroups[0].Tasks) != 1 {
		return nil, errors.New("nomad's job parser found no task")
	}
	task = parsed.TaskGroups[0].Tasks[0]
	task.Name = ""
	return task, nil
}

// asRead takes the task through JSON, as it will travel, so that what is
// parsed and what is read back are the same down to their Go types.
func asRead(task *api.Task) (*api.Task, error) {
	raw, err := json.Marshal(task)
	if err != nil {
		return nil, fmt.Errorf("it cannot be written as JSON: %w", err)
	}
	out := &api.Task{}
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, fmt.Errorf("it cannot be read back from JSON: %w", err)
	}
	return out, nil
}

// diagnostics puts the job parser's complaints where the user wrote what they
// are about.
func (t *taskText) diagnostics(err error, block hcl.Range) hcl.Diagnostics {
	var out hcl.Diagnostics
	if known, ok := errors.AsType[hcl.Diagnostics](err); ok {
		for _, d := range known {
			if d.Subject == nil {
				out = append(out, errorAt(block, d.Summary, "%s", d.Detail))
			} else if at, said := t.source(d.Subject.Start, d.Subject.End); !said {
				out = append(out, errorAt(at, d.Summary, "%s", d.Detail))
			}
		}
		return t.atLeastOne(out, block)
	}
	complaints := splitComplaints(err.Error())
	for _, c := range complaints[:min(len(complaints), maxDiagnostics+1)] {
		at, said := block, false
		if c.placed {
			at, said = t.source(c.start, c.end)
		}
		if !said {
			out = append(out, errorAt(at, c.summary, "%s", c.detail))
		}
	}
	return t.atLeastOne(out, block)
}

// atLeastOne makes sure that a task is not given up in silence.
func (t *taskText) atLeastOne(diags hcl.Diagnostics, block hcl.Range) hcl.Diagnostics {
	if len(diags) == 0 && !t.diags.HasErrors() {
		diags = hcl.Diagnostics{errorAt(block, "Invalid task", "Nomad's job parser cannot read it.")}
	}
	return diags
}

// complaint is one diagnostic that was turned into text.
type complaint struct {
	placed          bool
	start, end      hcl.Pos
	summary, detail string
}

// splitComplaints takes apart lines such as "name:3,5-8: Summary; Detail",
// whose details may hold further lines.
func splitComplaints(text string) []complaint {
	head := regexp.MustCompile(`(?m)^(?:` + regexp.QuoteMeta(jobName) + `:(\d+),(\d+)-(?:(\d+),)?(\d+)|<nil>): `)
	starts := head.FindAllStringSubmatchIndex(text, -1)
	if len(starts) == 0 || starts[0][0] != 0 {
		return []complaint{{summary: "Invalid task", detail: text}}
	}
	var out []complaint
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		c := complaint{placed: at[2] >= 0}
		c.summary, c.detail, _ = strings.Cut(strings.TrimSpace(text[at[1]:end]), "; ")
		if c.placed {
			number := func(group int) int {
				if at[2*group] < 0 {
					return 0
				}
				n, _ := strconv.Atoi(text[at[2*group]:at[2*group+1]])
				return n
			}
			c.start = hcl.Pos{Line: number(1), Column: number(2)}
			c.end = hcl.Pos{Line: max(number(3), c.start.Line), Column: number(4)}
		}
		out = append(out, c)
	}
	return out
}
