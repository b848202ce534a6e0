package expression

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sluice-stream/sluice/graph"
)

// Program is a compiled expression. Any number of goroutines may run it, each with a Record of its own.
type Program struct {
	use    graph.Use
	format graph.Format
	cel    cel.Program
	// quick and result are the same without the interpreter, where that is possible.
	quick  predicate
	result result
}

// Compile compiles an expression that stands at use and sees key and value in these formats. Errors are
// those of Checker.ResultFormat.
func Compile(source string, use graph.Use, key, value graph.Format) (*Program, error) {
	return compile(source, use, key, value, MaxCost)
}

func compile(source string, use graph.Use, key, value graph.Format, maxCost uint64) (*Program, error) {
	env, ast, format, err := check(source, use, key, value)
	if err != nil {
		return nil, err
	}
	program, err := env.Program(ast, programOptions(env, ast, maxCost)...)
	if err != nil {
		return nil, fault(1, 1, "", "%s", readable(err.Error()))
	}
	p := &Program{use: use, format: format, cel: program}
	switch root, s := ast.NativeRep().Expr(), (specializer{key, value}); use {
	case graph.UseFilter, graph.UseUntil:
		p.quick = s.predicate(root)
	case graph.UseKey, graph.UseValue, graph.UseKeyBy:
		p.result = s.result(root)
	}
	return p, nil
}

// ResultFormat is the format of the result by its static type: of UseFlatMap, that of the elements.
// It means something for UseKeyBy, UseKey, UseValue and UseFlatMap only.
func (p *Program) ResultFormat() graph.Format { return p.format }

// Checker judges expressions without running them. It implements graph.Expressions.
type Checker struct{}

// ResultFormat compiles the expression and returns the format of its result: string for strings,
// numbers and bools, which become text; bytes for bytes; json for maps, lists, and for dyn, whose type
// shows only when it runs. An error is an Error, or several by errors.Join.
func (Checker) ResultFormat(expression string, use graph.Use, key, value graph.Format) (graph.Format, error) {
	_, _, format, err := check(expression, use, key, value)
	return format, err
}

func check(source string, use graph.Use, key, value graph.Format) (*cel.Env, *cel.Ast, graph.Format, error) {
	switch {
	case len(source) > MaxSourceBytes:
		return nil, nil, "", fault(1, 1, "make it shorter", "the expression has %d bytes, more than the limit of %d", len(source), MaxSourceBytes)
	case !utf8.ValidString(source):
		return nil, nil, "", fault(1, 1, "save the file as UTF-8", "the expression is not valid UTF-8")
	}
	env, err := environment(key, value)
	if err != nil {
		return nil, nil, "", err
	}
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		return nil, nil, "", compileErrors(issues, key, value)
	}
	if err := bytesOfJSON(ast, key, value); err != nil {
		return nil, nil, "", err
	}
	format, problem, hint := resultFormat(use, ast.OutputType())
	if problem != "" {
		return nil, nil, "", fault(1, 1, hint, "%s", problem)
	}
	return env, ast, format, nil
}

// eval runs the interpreter.
func (p *Program) eval(r *Record) (ref.Val, error) {
	if r.stopped != nil && r.stopped.Load() {
		return nil, ErrStopped
	}
	out, _, err := p.cel.Eval(&r.vars)
	if err != nil {
		return nil, r.explain(err)
	}
	return out, nil
}

// explain makes an error that holds no reference to the record, as that is gone when somebody prints it.
func (r *Record) explain(err error) error {
	var format *FormatError
	if errors.As(err, &format) {
		return format
	}
	message := readable(err.Error())
	if !strings.HasPrefix(message, "no such overload") {
		return errors.New(message)
	}
	if v := r.vars.record; v.Key.IsNull() || v.Value.IsNull() {
		return errors.New(message + " (key or value is null here: begin with key != null && … or value != null && …)")
	}
	return errors.New(message + " (a type does not fit: convert with int(…), double(…) or string(…))")
}

// Bool is the result of a filter.
func (p *Program) Bool(r *Record) (bool, error) {
	if p.quick != nil {
		if result, ok := p.quick(&r.vars); ok {
			return result, nil
		}
	}
	out, err := p.eval(r)
	if err != nil {
		return false, err
	}
	return asBool(out)
}

// Timestamp is the result of a timestamp expression, in milliseconds since 1970; null gives -1, none.
func (p *Program) Timestamp(r *Record) (int64, error) {
	out, err := p.eval(r)
	if err != nil {
		return 0, err
	}
	return asMillis(out)
}

// Topic is the result of a topic expression. The string may be kept.
func (p *Program) Topic(r *Record) (string, error) {
	out, err := p.eval(r)
	if err != nil {
		return "", err
	}
	text, err := asString(out)
	if err == nil && text != r.topic { // the same topic again costs nothing
		r.topic = string([]byte(text))
	}
	return r.topic, err
}

// Partition is the result of a partitioner expression, from 0.
func (p *Program) Partition(r *Record) (int32, error) {
	out, err := p.eval(r)
	if err != nil {
		return 0, err
	}
	n, err := asInt(out)
	if err == nil && (n < 0 || n > 1<<31-1) {
		err = errors.New("the partition " + strconv.FormatInt(n, 10) + " is out of range, want 0 to 2147483647")
	}
	return int32(n), err
}
