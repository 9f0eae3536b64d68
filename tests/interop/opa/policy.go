package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"
)

const (
	// Prepared policies that are kept; with one more, all are forgotten.
	maxPolicies = 64
	// One evaluation may take this long.
	evaluationLimit = 10 * time.Second
	// Evaluations before a measurement begins.
	warmUp = 1000
)

// A query, ready to be evaluated, or why it is not.
type prepared struct {
	query rego.PreparedEvalQuery
	err   error
}

// Prepared queries by all that goes into them.
type policies struct {
	byContent map[string]prepared
}

func newPolicies() *policies {
	return &policies{byContent: map[string]prepared{}}
}

func (p *policies) answer(asked *job) answer {
	told := answer{ID: asked.ID}
	policy := p.prepared(asked)
	if policy.err != nil {
		told.LoadError = newFailure(policy.err)
		return told
	}
	options, err := inputOptions(asked.Input)
	if err != nil {
		told.Error = newFailure(err)
		return told
	}
	if asked.Iterations > 0 {
		told.Nanoseconds, err = measure(policy.query, options, asked.Iterations)
	} else {
		told.Result, err = evaluate(policy.query, options)
	}
	if err != nil {
		told.Error = newFailure(err)
	}
	return told
}

func (p *policies) prepared(asked *job) prepared {
	key := contentKey(asked)
	if known, ok := p.byContent[key]; ok {
		return known
	}
	if len(p.byContent) >= maxPolicies {
		clear(p.byContent)
	}
	query, err := prepare(asked)
	p.byContent[key] = prepared{query, err}
	return p.byContent[key]
}

// All but the input. Go writes maps in the order of their keys.
func contentKey(asked *job) string {
	content := *asked
	content.ID, content.Input, content.Iterations = "", nil, 0
	key, err := json.Marshal(content)
	if err != nil {
		panic(err) // It came as JSON.
	}
	return string(key)
}

// As OPA-Envoy prepares its query: errors of built-in functions make an expression undefined.
func prepare(asked *job) (rego.PreparedEvalQuery, error) {
	version, err := regoVersion(asked.Version)
	if err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	options := []func(*rego.Rego){
		rego.Query(asked.Query),
		rego.SetRegoVersion(version),
		rego.StrictBuiltinErrors(false),
	}
	for name, text := range asked.Modules {
		options = append(options, rego.Module(name, text))
	}
	if len(asked.Data) > 0 {
		var data map[string]any
		if err := util.UnmarshalJSON(asked.Data, &data); err != nil {
			return rego.PreparedEvalQuery{}, fmt.Errorf("data: %w", err)
		}
		options = append(options, rego.Store(inmem.NewFromObject(data)))
	}
	return rego.New(options...).PrepareForEval(context.Background())
}

func regoVersion(name string) (ast.RegoVersion, error) {
	switch name {
	case "v0":
		return ast.RegoV0, nil
	case "v1":
		return ast.RegoV1, nil
	default:
		return ast.RegoUndefined, fmt.Errorf("version is %q, expected v0 or v1", name)
	}
}

// The input as a value of the engine's, which costs nothing per evaluation.
func inputOptions(input json.RawMessage) ([]rego.EvalOption, error) {
	if len(input) == 0 {
		return nil, nil
	}
	value, err := ast.ValueFromReader(bytes.NewReader(input))
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	return []rego.EvalOption{rego.EvalParsedInput(value)}, nil
}

// The value of the query as JSON, which is nil when it is undefined: null is written, nothing is not.
func evaluate(query rego.PreparedEvalQuery, options []rego.EvalOption) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), evaluationLimit)
	defer cancel()
	results, err := query.Eval(ctx, options...)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	if len(results) > 1 {
		return nil, fmt.Errorf("the query has %d results", len(results))
	}
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(results[0].Expressions[0].Value); err != nil {
		return nil, err
	}
	return json.RawMessage(bytes.TrimSpace(written.Bytes())), nil
}

func measure(query rego.PreparedEvalQuery, options []rego.EvalOption, iterations int) (float64, error) {
	ctx := context.Background()
	var before time.Duration
	for i := range warmUp + iterations {
		if i == warmUp {
			before = cpuTime()
		}
		if _, err := query.Eval(ctx, options...); err != nil {
			return 0, err
		}
	}
	return float64((cpuTime() - before).Nanoseconds()) / float64(iterations), nil
}

// What this process has used so far, by all of its threads.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // It has no way to fail with these arguments.
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func newFailure(err error) *failure {
	return &failure{Code: code(err), Message: err.Error()}
}

// The code of the first error, for those come in lists when modules are at fault.
func code(err error) string {
	var (
		several    rego.Errors
		compiling  ast.Errors
		parsing    *ast.Error
		evaluation *topdown.Error
	)
	switch {
	case errors.As(err, &several) && len(several) > 0:
		return code(several[0])
	case errors.As(err, &compiling) && len(compiling) > 0:
		return compiling[0].Code
	case errors.As(err, &parsing):
		return parsing.Code
	case errors.As(err, &evaluation):
		return evaluation.Code
	default:
		return "other"
	}
}
