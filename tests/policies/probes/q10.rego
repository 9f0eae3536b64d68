# expect: equal
# opa: undefined
package envoy.authz
allow := true if not concat("", [input.a, ""]) == "v"
else := false if not input.b > "x"
