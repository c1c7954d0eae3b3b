package agents

import (
	"context"
	"embed"
	"fmt"
	"math"
	"path"
	"regexp"
	"strings"
	"unicode"
)

//go:embed documents/*.md
var documents embed.FS

// section is a part of a document: what questions are answered from.
type section struct {
	file, document, heading, text string
	words                         map[string]int
	length                        int
}

// library finds sections by the words that they share with a question,
// weighed by how rare a word is (BM25).
type library struct {
	sections []section
	seen     map[string]int // in how many sections a word is
	average  float64
}

var shipped = mustLibrary(documents)

// leastScore is how well a section has to fit before it is an answer.
const leastScore = 1.8

// headingWeight is how often a word of a heading counts.
const headingWeight = 3

// mustLibrary reads the shipped documents: "# " begins a document's title,
// "## " a section.
func mustLibrary(files embed.FS) *library {
	entries, err := files.ReadDir("documents")
	if err != nil {
		panic("agents: " + err.Error()) // the binary itself is broken
	}
	l := &library{seen: make(map[string]int)}
	total := 0
	for _, entry := range entries {
		text, err := files.ReadFile(path.Join("documents", entry.Name()))
		if err != nil {
			panic("agents: " + err.Error())
		}
		parts := strings.Split(string(text), "\n## ")
		title := strings.TrimSpace(strings.TrimPrefix(parts[0], "# "))
		for _, part := range parts[1:] {
			heading, body, _ := strings.Cut(part, "\n")
			s := section{
				file: entry.Name(), document: title, heading: strings.TrimSpace(heading),
				text: strings.TrimSpace(body), words: make(map[string]int),
			}
			for _, w := range stems(title + " " + heading) {
				s.words[w] += headingWeight
			}
			for _, w := range stems(body) {
				s.words[w]++
			}
			for w, n := range s.words {
				l.seen[w]++
				s.length += n
			}
			total += s.length
			l.sections = append(l.sections, s)
		}
	}
	l.average = float64(total) / float64(len(l.sections))
	return l
}

// find returns the section that fits the question best and how well; nil
// where none shares a word with it.
func (l *library) find(question string) (*section, float64) {
	const k, b = 1.2, 0.75
	var best *section
	bestScore := 0.0
	words := stems(question)
	for i := range l.sections {
		s := &l.sections[i]
		score := 0.0
		for _, w := range words {
			n := float64(s.words[w])
			if n == 0 {
				continue
			}
			rarity := math.Log(1 + (float64(len(l.sections))-float64(l.seen[w])+0.5)/(float64(l.seen[w])+0.5))
			score += rarity * n * (k + 1) / (n + k*(1-b+b*float64(s.length)/l.average))
		}
		if score > bestScore {
			best, bestScore = s, score
		}
	}
	return best, bestScore
}

// quote returns the section with its source.
func (s *section) quote() string {
	return fmt.Sprintf("%s (Source: %s, %q, %s)", s.text, s.document, s.heading, s.file)
}

// same are words that stand for another in the documents.
var same = map[string]string{
	"vacation": "annual", "holiday": "annual", "pto": "annual", "ill": "sick", "illness": "sick",
	"reimburs": "refund", "refund": "refund", "trip": "journey", "travel": "journey", "train": "journey", "flight": "journey", "fly": "journey",
	"food": "meal", "lunch": "meal", "dinner": "meal", "wfh": "home", "homeoffice": "home", "remote": "home", "remotely": "home",
	"baby": "parental", "maternity": "parental", "paternity": "parental", "deadline": "due", "submit": "due", "fix": "correct", "edit": "correct",
	"unsubscrib": "stop", "receipt": "receipt", "kilometre": "car", "mileage": "car", "driv": "car",
}

// commonWords say nothing about what a question is about.
var commonWords = func() map[string]bool {
	m := make(map[string]bool)
	for w := range strings.FieldsSeq(`a an the is are am be was were do does did i me my we our you your it its this that these those of on in at to for from by with
		and or not no can could may might must shall should will would what when where who whom which why how much many long often there if then than have has had get got
		need please left tell about as so any some one up out us per hour hours work working worked time`) {
		m[w] = true
	}
	return m
}()

// stems returns the words of text that carry meaning, without their endings.
func stems(text string) []string {
	var list []string
	for w := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) }) {
		if commonWords[w] {
			continue
		}
		for _, ending := range []string{"ing", "ies", "es", "ed", "s", "e"} {
			if cut, ok := strings.CutSuffix(w, ending); ok && len(cut) >= 3 {
				w = cut
				break
			}
		}
		for _, alike := range []string{w, w + "e"} {
			if other, ok := same[alike]; ok {
				w = other
			}
		}
		list = append(list, strings.TrimSuffix(w, "e"))
	}
	return list
}

var questionPattern = regexp.MustCompile(`(?i)\?|^\s*(what|when|where|who|which|why|how|can|could|may|must|do|does|is|are|am|should|will|tell me)\b|\b(policy|policies|rules?|allowed|entitled|allowance)\b`)

// asksPolicy reports whether text is a question that the documents may
// answer.
func asksPolicy(text string) bool {
	if !questionPattern.MatchString(text) {
		return false
	}
	_, score := shipped.find(text)
	return score >= leastScore || strings.Contains(strings.ToLower(text), "polic")
}

// policy answers from the documents, in their words and with the source.
func policy(_ context.Context, task Task, w Watcher) (Finding, error) {
	f := Finding{Agent: Policy}
	w.Thought(fmt.Sprintf("Looking into %d sections of the documents.", len(shipped.sections)), "Looking for: "+strings.Join(stems(task.Text), ", ")+".")
	s, score := shipped.find(task.Text)
	if s == nil || score < leastScore {
		f.Text = "I find nothing about that in the documents. Please ask the people team."
	} else {
		w.Thought("Found "+s.file+".", fmt.Sprintf("Found %q in %s.", s.heading, s.file))
		f.Text = s.quote()
	}
	say(w, f.Text)
	return f, nil
}
