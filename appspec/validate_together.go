package appspec

import "fmt"

// workerGroups holds the rules of the groups of a file: each by itself, those
// that share a pool, and the deployments that name one of them.
func (v *validator) workerGroups(file *File) {
	if len(file.WorkerGroups) > maxWorkerGroups {
		v.addf("worker_group", "A file has at most %d worker groups; this one has %d.", maxWorkerGroups, len(file.WorkerGroups))
		return
	}
	groups := map[string]*WorkerGroup{}
	pools := map[string][]*WorkerGroup{}
	for _, g := range file.WorkerGroups {
		v.workerGroup(g)
		if g == nil {
			continue
		}
		if groups[g.Name] != nil {
			v.addf(workerGroupPath(g.Name), "%s", alreadyThere("worker group", g.Name))
			continue
		}
		for _, other := range pools[g.NodePool] {
			if problem := g.ClashesWith(other); problem != "" {
				v.addf(workerGroupPath(g.Name)+".node_pool", "%s", problem)
				break
			}
		}
		groups[g.Name] = g
		pools[g.NodePool] = append(pools[g.NodePool], g)
	}
	for _, app := range file.Applications {
		if app == nil || len(app.Deployments) > maxDeployments {
			continue
		}
		for _, d := range app.Deployments {
			if d == nil || groups[d.WorkerGroup] == nil {
				continue // the group may be deployed already
			}
			for _, fault := range groups[d.WorkerGroup].CannotHold(d) {
				v.addf(deploymentPath(app, d)+"."+fault.Path, "%s", fault.Message)
			}
		}
	}
}

// ClashesWith says why two worker groups cannot be there together: their nodes
// could not be told apart. "": they can.
func (g *WorkerGroup) ClashesWith(other *WorkerGroup) string {
	mine, its := g.Node.Class, other.Node.Class
	switch {
	case g.Name == other.Name || g.NodePool != other.NodePool:
		return ""
	case mine == "" && its == "":
		return fmt.Sprintf("Worker group %s has node pool %s already, and nothing tells the nodes of the two apart. Give this group a pool of its own, or set class in the node block of both.",
			quote(other.Name), quote(other.NodePool))
	case mine == "" || its == "":
		without := g.Name
		if its == "" {
			without = other.Name
		}
		return fmt.Sprintf("Worker group %s has node pool %s already. Groups that share a pool are told apart by the class of their nodes: set class in the node block of worker group %s too.",
			quote(other.Name), quote(other.NodePool), quote(without))
	case mine == its:
		return fmt.Sprintf("Worker group %s has node pool %s already, and nodes of the same class, %s: nothing tells the nodes of the two apart. Give each a class of its own.",
			quote(other.Name), quote(other.NodePool), quote(its))
	default:
		return ""
	}
}

// CannotHold says why no node of the group, were it empty, could hold a replica
// of a deployment that names the group: by field of the deployment, such as
// "resources.cpu" and "node_pool". Constraints are for placement to judge.
func (g *WorkerGroup) CannotHold(d *Deployment) []Fault {
	var faults []Fault
	if d.NodePool != "" && d.NodePool != g.NodePool {
		faults = append(faults, Fault{"node_pool", fmt.Sprintf("Worker group %s is nodes of node pool %s, not of %s. Leave node_pool out: it follows from the group.",
			quote(g.Name), quote(g.NodePool), quote(d.NodePool))})
	}
	for _, fault := range g.Node.lacks(d.Resources) {
		fault.Message = fmt.Sprintf("No node of worker group %s can ever hold a replica. %s", quote(g.Name), fault.Message)
		fault.Path = "resources." + fault.Path
		faults = append(faults, fault)
	}
	if d.Task != nil {
		if problem := g.Node.driverProblem(d.Task.Driver); problem != "" {
			faults = append(faults, Fault{"task.driver", fmt.Sprintf("No node of worker group %s can ever hold a replica. %s", quote(g.Name), problem)})
		}
	}
	return faults
}
