# expect: equal
# opa: undefined
package envoy.authz
x if "a","a" in {"a"}
allow if not x
