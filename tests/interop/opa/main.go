// Answers what Open Policy Agent answers, so that it can judge decisions made elsewhere.
//
// Jobs come as JSON, one a line, on the input; one answer a line goes to the output, in the same order. It ends
// with the input.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// One question: what is query, by these modules and data, for this input?
type job struct {
	ID string `json:"id"`
	// Syntax of the modules: "v0" is that of --v0-compatible.
	Version string            `json:"version"`
	Modules map[string]string `json:"modules"`
	// The data document; absent is an empty one.
	Data json.RawMessage `json:"data"`
	// Such as data.envoy.authz.allow.
	Query string `json:"query"`
	// Absent means that input is undefined.
	Input json.RawMessage `json:"input"`
	// Above 0, the query is not answered but timed, by this many evaluations.
	Iterations int `json:"iterations"`
}

// At most one of Result, Error and LoadError is there; none is when the query is undefined.
type answer struct {
	ID     string `json:"id"`
	Result any    `json:"result,omitempty"`
	// Why the evaluation ended without a result.
	Error *failure `json:"error,omitempty"`
	// Why there is nothing to evaluate.
	LoadError *failure `json:"load_error,omitempty"`
	// CPU time of the whole process for one evaluation, garbage collection included.
	Nanoseconds float64 `json:"ns_per_decision,omitempty"`
}

// What went wrong, by the code that Open Policy Agent gives it.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "opa-judge:", err)
		os.Exit(1)
	}
}

// Answers in groups: whoever waits for one gets it as soon as no further job has come.
func serve(input io.Reader, output io.Writer) error {
	reader := bufio.NewReaderSize(input, 1<<20)
	writer := bufio.NewWriterSize(output, 1<<20)
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	policies := newPolicies()
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return writer.Flush()
		}
		if err != nil {
			return fmt.Errorf("reading a job: %w", err)
		}
		var asked job
		if err := json.Unmarshal(line, &asked); err != nil {
			return fmt.Errorf("a job is not JSON as expected: %w", err)
		}
		if err := encoder.Encode(policies.answer(&asked)); err != nil {
			return fmt.Errorf("answering job %s: %w", asked.ID, err)
		}
		if reader.Buffered() == 0 {
			if err := writer.Flush(); err != nil {
				return fmt.Errorf("answering job %s: %w", asked.ID, err)
			}
		}
	}
}
