# expect: equal
# opa: undefined
package envoy.authz
ok if input.a[_]
allow if not ok
