package webhook_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// description is the OpenAPI document, with which answers are compared.
type description struct {
	paths     map[string]map[string]operation // by template and method in lower case
	responses map[string]response             // that several operations share
	compiler  *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema
	given   map[string]bool // "GET /path 200" and codes: what the tests got
}

type operation struct {
	Roles      []string `json:"x-roles"`
	Security   []any
	Parameters []parameter
	Body       *struct{} `json:"requestBody"`
	Responses  map[string]response
}

type parameter struct{ Name, In string }

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema struct {
			AllOf []struct {
				Properties struct {
					Status struct{ Const int }
					Code   struct{ Enum []approvals.Code }
				}
			}
		}
	}
	Headers map[string]struct{ Required bool }
}

const documentURL = "file:///openapi.json"

var described = sync.OnceValue(func() *description {
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Responses map[string]response }
	}
	if err := json.Unmarshal(webhook.OpenAPI, &doc); err != nil {
		panic(err)
	}
	d := &description{
		paths: map[string]map[string]operation{}, responses: doc.Components.Responses,
		compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}, given: map[string]bool{},
	}
	for path, item := range doc.Paths {
		d.paths[path] = map[string]operation{}
		for method, raw := range item {
			var op operation
			if method == "parameters" {
				continue
			}
			if err := json.Unmarshal(raw, &op); err != nil {
				panic(err)
			}
			d.paths[path][method] = op
		}
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(webhook.OpenAPI))
	if err != nil {
		panic(err)
	}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(documentURL, whole); err != nil {
		panic(err)
	}
	return d
})

// pointer is the JSON pointer with these tokens.
func pointer(tokens ...string) string {
	at := "#"
	for _, token := range tokens {
		at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
	}
	return at
}

// schema compiles the schema at a pointer of the document.
func (d *description) schema(at string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.schemas[at]; ok {
		return s, nil
	}
	s, err := d.compiler.Compile(documentURL + at)
	d.schemas[at] = s
	return s, err
}

// find returns the operation that a call is about, and the path of it in the
// document; "" when it describes none.
func (d *description) find(method, path string) (at string, op operation) {
	got := strings.Split(path, "/")
	for template, item := range d.paths {
		o, ok := item[strings.ToLower(method)]
		fits := func(want, got string) bool { return want == got || want == "{id}" && got != "" }
		if !ok || !slices.EqualFunc(strings.Split(template, "/"), got, fits) {
			continue
		}
		if at == "" || strings.Contains(at, "{id}") { // a word wins over {id}
			at, op = template, o
		}
	}
	return at, op
}

// checked holds every answer of a handler against the document: a route, a status,
// a type, a header or a field that it does not describe fails the test.
func checked(t testing.TB, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent bytes.Buffer
		r.Body = readCloser{io.TeeReader(r.Body, &sent), r.Body}
		kept := &keeper{ResponseWriter: w}
		h.ServeHTTP(kept, r)
		if r.Context().Err() == nil {
			described().compare(t, r, sent.Bytes(), kept)
		}
	})
}

type readCloser struct {
	io.Reader
	io.Closer
}

// keeper keeps a copy of an answer.
type keeper struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *keeper) WriteHeader(status int) {
	k.status = status
	k.ResponseWriter.WriteHeader(status)
}

func (k *keeper) Write(b []byte) (int, error) {
	if k.status == 0 {
		k.status = http.StatusOK
	}
	k.body.Write(b)
	return k.ResponseWriter.Write(b)
}

func (k *keeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (d *description) compare(t testing.TB, r *http.Request, sent []byte, answer *keeper) {
	call := r.Method + " " + r.URL.Path
	at, op := d.find(r.Method, r.URL.Path)
	base := []string{"paths", at, strings.ToLower(r.Method), "responses", strconv.Itoa(answer.status)}
	res := op.Responses[strconv.Itoa(answer.status)]
	shared := strings.TrimPrefix(res.Ref, "#/components/responses/")
	if at == "" { // nobody serves it
		shared = map[int]string{404: "NotFound", 405: "MethodNotAllowed", 429: "RateLimited"}[answer.status]
	}
	if shared != "" {
		base, res = []string{"components", "responses", shared}, d.responses[shared]
	}
	header := answer.Header()
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if _, known := res.Content[kind]; !known || err != nil {
		t.Errorf("%s: the document does not describe an answer with status %d of type %q", call, answer.status, header.Get("Content-Type"))
		return
	}
	d.got(r.Method, at, answer)
	for name, h := range res.Headers {
		if h.Required && header.Get(name) == "" {
			t.Errorf("%s: the answer %d lacks the header %s", call, answer.status, name)
		}
	}
	for _, name := range []string{"Location", "Retry-After", "Allow", "WWW-Authenticate"} {
		if _, known := res.Headers[name]; header.Get(name) != "" && !known {
			t.Errorf("%s: the document does not describe the header %s of an answer %d", call, name, answer.status)
		}
	}
	if strings.HasSuffix(kind, "json") && r.Method != http.MethodHead && !strings.Contains(kind, "nd") {
		d.validate(t, call+": answer "+strconv.Itoa(answer.status), pointer(append(base, "content", kind, "schema")...), answer.body.Bytes())
	}
	if answer.status/100 == 2 && at != "" {
		d.compareCall(t, r, at, op, sent)
	}
}

// got notes an answer that is described.
func (d *description) got(method, at string, answer *keeper) {
	var problem webhook.Problem
	_ = json.Unmarshal(answer.body.Bytes(), &problem) // not every answer is one
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given[fmt.Sprintf("%s %s %d", method, at, answer.status)] = true
	d.given[string(problem.Code)] = true
}

// TestMain checks after all tests that they got what the document describes: each
// answer of each operation, and each code.
func TestMain(m *testing.M) {
	code := m.Run()
	only := func(name string) bool { f := flag.Lookup(name); return f != nil && f.Value.String() != "" }
	if code != 0 || only("test.run") || only("test.skip") || only("test.list") || only("test.fuzz") {
		os.Exit(code) // not all tests ran
	}
	for _, missing := range described().missing() {
		fmt.Println("no test gets what the document describes:", missing)
		code = 1
	}
	os.Exit(code)
}

// missing lists what no test got.
func (d *description) missing() (all []string) {
	var want []string
	for path, item := range d.paths {
		for method, op := range item {
			for status := range op.Responses {
				want = append(want, fmt.Sprintf("%s %s %s", strings.ToUpper(method), path, status))
			}
		}
	}
	for _, codes := range webhook.Codes() {
		for _, code := range codes {
			want = append(want, string(code))
		}
	}
	slices.Sort(want)
	return slices.DeleteFunc(want, func(w string) bool { return d.given[w] })
}

// compareCall holds a call that was accepted against the document.
func (d *description) compareCall(t testing.TB, r *http.Request, at string, op operation, sent []byte) {
	for name := range r.URL.Query() {
		// Operations without parameters do not look at the query.
		if len(op.Parameters) > 0 && !slices.Contains(op.Parameters, parameter{name, "query"}) {
			t.Errorf("%s %s: the document does not describe the parameter %q", r.Method, at, name)
		}
	}
	if op.Body != nil {
		d.validate(t, r.Method+" "+at+": body", pointer("paths", at, strings.ToLower(r.Method), "requestBody", "content", "application/json", "schema"), sent)
	}
}

func (d *description) validate(t testing.TB, what, at string, text []byte) {
	schema, err := d.schema(at)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s is not as described: %v\n%s", what, err, text)
	}
}

func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	_, s := serve(t, nil)
	got := ask(t, s, "GET", "/api/v1/openapi.json", "", "")
	if got.StatusCode != 200 || got.body != string(webhook.OpenAPI) || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d of type %s, %d bytes; want the document", got.StatusCode, got.Header.Get("Content-Type"), len(got.body))
	}
}

// The document describes every route with its roles, and no other; every code under
// the status that it has, and no other; and all that it refers to is there.
func TestOpenAPIIsComplete(t *testing.T) {
	t.Parallel()
	d := described()
	roles := map[string][]string{}
	codes := map[int][]approvals.Code{}
	for path, item := range d.paths {
		for method, op := range item {
			roles[strings.ToUpper(method)+" "+path] = op.Roles
			if (len(op.Security) > 0) != (len(op.Roles) > 0) {
				t.Errorf("%s %s: got roles %q and security %v; want both or none", method, path, op.Roles, op.Security)
			}
		}
	}
	if diff := cmp.Diff(webhook.Access(), roles); diff != "" {
		t.Errorf("routes and roles (-served +described):\n%s", diff)
	}
	for name, res := range d.responses {
		schema := res.Content["application/problem+json"].Schema
		if len(schema.AllOf) != 2 {
			t.Errorf("the response %s is not a problem with a status and codes of its own", name)
			continue
		}
		p := schema.AllOf[1].Properties
		codes[p.Status.Const] = slices.Sorted(slices.Values(p.Code.Enum))
	}
	if diff := cmp.Diff(webhook.Codes(), codes); diff != "" {
		t.Errorf("codes by status (-given +described):\n%s", diff)
	}
	for _, at := range references(webhook.OpenAPI) {
		if !strings.HasPrefix(at, "#/components/schemas/") {
			continue // an answer, which is looked up by name, or a parameter
		}
		if _, err := d.schema(at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// references lists the $ref of a document.
func references(text []byte) (all []string) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	for previous := json.Token(nil); ; {
		token, err := decoder.Token()
		if err != nil {
			return all
		}
		if at, ok := token.(string); ok && previous == "$ref" {
			all = append(all, at)
		}
		previous = token
	}
}

// The check itself finds what is not described.
func TestUndescribedAnswersAreFound(t *testing.T) {
	t.Parallel()
	const problem = `{"type":"t","title":"t","status":404,"code":"not_found","request_id":"x"}`
	for name, c := range map[string]struct {
		method, path, kind, body string
		status                   int
		found                    bool
	}{
		"as described":       {"GET", "/healthz", "application/json", `{"status":"ok"}`, 200, false},
		"field":              {"GET", "/healthz", "application/json", `{"status":"ok","since":1}`, 200, true},
		"missing field":      {"GET", "/healthz", "application/json", `{}`, 200, true},
		"status":             {"GET", "/healthz", "application/json", `{"status":"ok"}`, 202, true},
		"type":               {"GET", "/healthz", "text/plain", `ok`, 200, true},
		"route":              {"GET", "/api/v1/secrets", "application/json", `{}`, 200, true},
		"method":             {"DELETE", "/healthz", "application/json", `{"status":"ok"}`, 200, true},
		"parameter":          {"GET", requests + "?verbose=1", "application/json", `{"requests":[],"next_cursor":null}`, 200, true},
		"code of another":    {"GET", "/api/v1/deploy-approval-requests/x", "application/problem+json", strings.Replace(problem, "not_found", "invalid", 1), 404, true},
		"a described code":   {"GET", "/api/v1/deploy-approval-requests/x", "application/problem+json", problem, 404, false},
		"header that is due": {"GET", "/api/v1/openapi.json", "application/problem+json", strings.NewReplacer("404", "429", "not_found", "rate_limited").Replace(problem), 429, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := &teller{TB: t}
			h := checked(told, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, nil))
			if told.failed != c.found {
				t.Errorf("found: got %t; want %t", told.failed, c.found)
			}
		})
	}
}

// teller notices a failure and does not fail.
type teller struct {
	testing.TB
	failed bool
}

func (t *teller) Errorf(string, ...any) { t.failed = true }

// schemaNode is what a test reads of a schema.
type schemaNode struct {
	Ref        string `json:"$ref"`
	Required   []string
	Properties map[string]schemaNode
	Items      *schemaNode
}

// Each object is described with the fields that it has in Go: those without
// omitempty are required.
func TestOpenAPIHasTheFieldsOfTheTypes(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct{ Schemas map[string]schemaNode }
	}
	if err := json.Unmarshal(webhook.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	schemas := doc.Components.Schemas
	seen := map[string]bool{}
	var compare func(at string, s schemaNode, typ reflect.Type)
	compare = func(at string, s schemaNode, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && s.Items != nil {
			if typ.Kind() == reflect.Slice {
				s = *s.Items
			}
			typ = typ.Elem()
		}
		if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
			if seen[name] {
				return
			}
			seen[name] = true
			at, s = name, schemas[name]
		}
		if typ.Kind() != reflect.Struct || len(s.Properties) == 0 {
			return
		}
		var fields, required []string
		for f := range typ.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" || name == "" {
				continue
			}
			fields = append(fields, name)
			if !strings.Contains(options, "omit") {
				required = append(required, name)
			}
			compare(at+"."+name, s.Properties[name], f.Type)
		}
		slices.Sort(fields)
		if diff := cmp.Diff(fields, slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("%s: fields (-type +described):\n%s", at, diff)
		}
		slices.Sort(required)
		if diff := cmp.Diff(required, slices.Sorted(slices.Values(s.Required))); diff != "" {
			t.Errorf("%s: required fields (-type +described):\n%s", at, diff)
		}
	}
	for name, typ := range map[string]reflect.Type{
		"Request": reflect.TypeFor[webhook.Request](), "RequestList": reflect.TypeFor[webhook.Page](), "History": reflect.TypeFor[webhook.History](),
		"Verified": reflect.TypeFor[webhook.Verified](), "Problem": reflect.TypeFor[webhook.Problem](), "Readiness": reflect.TypeFor[webhook.Readiness](),
		"CreateBody": reflect.TypeFor[webhook.CreateBody](), "VerifyBody": reflect.TypeFor[webhook.VerifyBody](),
		"DeployBody": reflect.TypeFor[webhook.DeployBody](), "CancelBody": reflect.TypeFor[webhook.CancelBody](),
	} {
		compare(name, schemaNode{Ref: "#/components/schemas/" + name}, typ)
	}
	seen["Status"], seen["Health"] = true, true // have no type with fields
	if diff := cmp.Diff(slices.Sorted(maps.Keys(schemas)), slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("schemas (-document +compared):\n%s", diff)
	}
}
