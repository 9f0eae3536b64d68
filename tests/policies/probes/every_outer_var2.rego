# expect: equal
# opa: true
package envoy.authz
ok if { zz := input.z; every x in input.xs { x == zz } }
allow if not ok
