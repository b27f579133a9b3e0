package appspec

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/hashicorp/go-cty-funcs/cidr"
	"github.com/hashicorp/go-cty-funcs/crypto"
	"github.com/hashicorp/go-cty-funcs/encoding"
	"github.com/hashicorp/go-cty-funcs/uuid"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// cost says what a call takes beyond its arguments, in units, or why it is
// refused. The arguments are known and of the parameters' types.
type cost func(args []cty.Value) (int, error)

// refusedFunction says why a function that Nomad's job files have is not there
// in a spec.
func refusedFunction(name string) (why string, refused bool) {
	const (
		varies = "Its result differs from call to call, and a spec must mean the same each time that it is read."
		dear   = "What it takes cannot be bounded before it is called."
		host   = "A spec sees nothing of the machine but the files in its own folder, through file, filebase64 and fileexists."
	)
	why, refused = map[string]string{
		"bcrypt": varies, "uuidv4": varies, "timestamp": varies, "rsadecrypt": "A spec holds no private keys.",
		"yamldecode": dear, "regex": dear, "regexall": dear, "regex_replace": dear + " The replace function takes plain text.",
		"abspath": host, "pathexpand": host, "fileset": host, "templatefile": host, "env": host,
	}[name]
	if refused {
		why = fmt.Sprintf("%s cannot be called here. %s", name, why)
	}
	return why, refused
}

// plainFunctions cost no more than a small multiple of their arguments.
func plainFunctions() map[string]function.Function {
	return map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "pow": stdlib.PowFunc, "signum": stdlib.SignumFunc,

		"base64decode": encoding.Base64DecodeFunc, "base64encode": encoding.Base64EncodeFunc,
		"jsonencode": stdlib.JSONEncodeFunc, "urlencode": encoding.URLEncodeFunc,
		"md5": crypto.Md5Func, "sha1": crypto.Sha1Func, "sha256": crypto.Sha256Func, "sha512": crypto.Sha512Func,
		"uuidv5": uuid.V5Func,

		"cidrhost": cidr.HostFunc, "cidrnetmask": cidr.NetmaskFunc,
		"cidrsubnet": cidr.SubnetFunc, "cidrsubnets": cidr.SubnetsFunc,

		"chomp": stdlib.ChompFunc, "lower": stdlib.LowerFunc, "upper": stdlib.UpperFunc, "title": stdlib.TitleFunc,
		"strlen": stdlib.StrlenFunc, "strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc,
		"trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc,
		"formatdate": stdlib.FormatDateFunc, "timeadd": stdlib.TimeAddFunc,

		"chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc,
		"compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc, "index": stdlib.IndexFunc, "keys": stdlib.KeysFunc,
		"length": stdlib.LengthFunc, "lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc,
		"reverse": stdlib.ReverseListFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc,
		"values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
	}
}

type costlyFunction struct {
	function.Function
	cost cost
}

// costlyFunctions may cost far more than their arguments, but no more than
// their actual arguments tell.
func costlyFunctions() map[string]costlyFunction {
	return map[string]costlyFunction{
		"csvdecode":       {stdlib.CSVDecodeFunc, byLength},
		"distinct":        {stdlib.DistinctFunc, bySquare},
		"format":          {stdlib.FormatFunc, formatCost},
		"formatlist":      {stdlib.FormatListFunc, formatListCost},
		"indent":          {stdlib.IndentFunc, indentCost},
		"join":            {stdlib.JoinFunc, joinCost},
		"jsondecode":      {stdlib.JSONDecodeFunc, jsonCost},
		"parseint":        {stdlib.ParseIntFunc, parseIntCost},
		"range":           {stdlib.RangeFunc, func([]cty.Value) (int, error) { return 1024, nil }}, // its own limit
		"replace":         {stdlib.ReplaceFunc, replaceCost},
		"setintersection": {stdlib.SetIntersectionFunc, bySquare},
		"setproduct":      {stdlib.SetProductFunc, productCost},
		"setunion":        {stdlib.SetUnionFunc, bySquare},
		"split":           {stdlib.SplitFunc, byLength},
	}
}

// meteredFunctions is all that a spec may call.
func (m *meter) meteredFunctions(files fs.FS) map[string]function.Function {
	all := map[string]function.Function{
		// They evaluate their arguments themselves, under the meter.
		"can": tryfunc.CanFunc, "convert": typeexpr.ConvertFunc, "try": tryfunc.TryFunc,

		"file":       m.fileFunction(files, fileText),
		"filebase64": m.fileFunction(files, fileBase64),
		"fileexists": m.fileFunction(files, fileExists),
	}
	for name, f := range plainFunctions() {
		all[name] = m.metered(f, func([]cty.Value) (int, error) { return 0, nil })
	}
	for name, f := range costlyFunctions() {
		all[name] = m.metered(f.Function, f.cost)
	}
	return all
}

var errUnknown = errors.New("an argument is not known")

// metered returns f, which is paid for before it is called.
func (m *meter) metered(f function.Function, price cost) function.Function {
	pay := func(args []cty.Value) error {
		total := 0
		for _, arg := range args {
			if !arg.IsWhollyKnown() {
				return errUnknown
			}
			before := m.left
			m.measure(arg, 0)
			total += before - m.left
		}
		extra, err := price(args)
		m.charge(max(extra, 0) + total)
		return err
	}
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := pay(args); errors.Is(err, errUnknown) {
				return cty.DynamicPseudoType, nil
			} else if err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for _, arg := range args {
				if !arg.IsWhollyKnown() {
					return cty.DynamicVal, nil
				}
			}
			return f.Call(args)
		},
	})
}
