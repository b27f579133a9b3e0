package appspec

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxName = 63

func nameProblem(name string) string {
	rule := fmt.Sprintf("use 1 to %d of a-z, 0-9 and '-', starting with a letter.", maxName)
	if name == "" || len(name) > maxName || name[0] < 'a' || name[0] > 'z' {
		return rule
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return rule
		}
	}
	return ""
}

func nodePoolProblem(name string) string {
	if name == "" || len(name) > 128 {
		return "A node pool's name is needed, of 1 to 128 characters."
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Sprintf("%s is no node pool's name: use letters, digits, '-' and '_'.", quote(name))
		}
	}
	return ""
}

// routeProblem holds route prefixes to one spelling, so that two which mean
// the same are the same.
func routeProblem(prefix string) string {
	if prefix == "/" {
		return ""
	}
	if problem := urlPathProblem(prefix, ":@!$'()*+,;="); problem != "" {
		return problem
	}
	if strings.HasSuffix(prefix, "/") {
		return fmt.Sprintf("A route prefix does not end with a slash; use %s.", quote(strings.TrimRight(prefix, "/")))
	}
	for part := range strings.SplitSeq(prefix[1:], "/") {
		switch part {
		case "":
			return "A route prefix has no double slash."
		case ".", "..":
			return "A route prefix has no \".\" or \"..\" part."
		}
	}
	if prefix == "/-" || strings.HasPrefix(prefix, "/-/") {
		return "Routes below /-/ are the proxy's own."
	}
	return ""
}

// requestRunes is what the path of a request may hold beside what
// urlPathProblem always lets through: it may have a query.
const requestRunes = "?=&:@!$'()*+,;%"

// urlPathProblem lets through letters, digits, '-', '.', '_', '~', '/' and the
// extra characters.
func urlPathProblem(path, extra string) string {
	if !strings.HasPrefix(path, "/") {
		return fmt.Sprintf("A path starts with a slash, such as \"/a/b\"; this is %s.", quote(path))
	}
	if len(path) > maxPath {
		return fmt.Sprintf("A path has at most %d characters.", maxPath)
	}
	for _, c := range path {
		plain := c < utf8.RuneSelf && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
		if !plain && !strings.ContainsRune("-._~/"+extra, c) {
			return fmt.Sprintf("%s has no place in this path.", strconv.QuoteRune(c))
		}
	}
	return ""
}

func applicationPath(name string) string { return "application." + clip(name) }

func workerGroupPath(name string) string { return "worker_group." + clip(name) }

func deploymentPath(app *Application, d *Deployment) string {
	return applicationPath(app.Name) + ".deployment." + clip(d.Name)
}

func alreadyThere(what, name string) string {
	return fmt.Sprintf("There is another %s with the name %s already.", what, quote(name))
}

func unknownDeployment(name string, names []string) string {
	message := fmt.Sprintf("There is no deployment %s in this application.", quote(name))
	if near := Nearest(name, names); near != "" {
		message += fmt.Sprintf(" Did you mean deployment.%s?", near)
	}
	if len(names) > 0 {
		message += " It has: " + clipTo(strings.Join(names[:min(len(names), 50)], ", "), 400) + "."
	}
	return message
}

// Nearest returns the candidate that name was probably meant to be, or "".
func Nearest(name string, candidates []string) string {
	if len(name) > 2*maxName {
		return ""
	}
	if len(candidates) > 200 {
		candidates = candidates[:200]
	}
	best, least := "", max(1, len(name)/3)+1
	for _, candidate := range candidates {
		if len(candidate) > 2*maxName {
			continue
		}
		if d := distance(name, candidate); d > 0 && d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func quote(s string) string { return strconv.Quote(clip(s)) }

// clip keeps a hostile name from filling messages and paths.
func clip(s string) string { return clipTo(s, 2*maxName) }

func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
